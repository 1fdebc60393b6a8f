import * as v from "valibot";
import { embedding } from "../ops/embedding";
import { prepend } from "../ops/prepend";
import { relativeAttention } from "../ops/relative_attention";
import { activationOf, count, GELU_ACTIVATIONS, layerCount, only, parseConfig, probability } from "./config";
import type { LayerModules } from "./encoder-layer";
import type { Forward, RelativePositions } from "./forward";
import { firstTokenClassifier, taskOf } from "./heads";
import { normParameters } from "./model";
import type { Model } from "./model";
import { BERT_MODULES, ENCODER_TASKS, encoderHead, textEncoder } from "./text-encoder";

const SCHEMA = v.object({
  vocab_size: v.optional(count, 128_100),
  hidden_size: count,
  num_hidden_layers: layerCount,
  num_attention_heads: count,
  intermediate_size: count,
  max_position_embeddings: v.optional(count, 512),
  /** Distance from which on all are alike; below 1, `max_position_embeddings`. */
  max_relative_positions: v.optional(v.pipe(v.number(), v.integer()), -1),
  position_buckets: v.pipe(count, v.minValue(2)),
  relative_attention: v.literal(true),
  share_att_key: v.literal(true),
  norm_rel_ebd: v.literal("layer_norm"),
  pos_att_type: v.picklist(["p2c|c2p", "c2p|p2c"]),
  conv_kernel_size: only(0),
  /** Whether embeddings of positions are added to those of tokens. */
  position_biased_input: v.optional(v.boolean(), true),
  type_vocab_size: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0)), 0),
  layer_norm_eps: v.optional(v.number(), 1e-7),
  hidden_act: v.optional(v.string(), "gelu"),
  pooler_hidden_act: only("gelu"),
  hidden_dropout_prob: v.optional(probability, 0.1),
  attention_probs_dropout_prob: v.optional(probability, 0.1),
  pooler_dropout: v.optional(probability, 0),
  cls_dropout: v.nullish(probability),
  pad_token_id: v.nullish(v.pipe(v.number(), v.integer(), v.minValue(0)), 0),
});

type Config = v.InferOutput<typeof SCHEMA>;

const MODULES: LayerModules = {
  ...BERT_MODULES,
  query: "attention.self.query_proj",
  key: "attention.self.key_proj",
  value: "attention.self.value_proj",
};

const ENCODER = "deberta.encoder";
const TABLE = `${ENCODER}.rel_embeddings.weight`;
/** Names of the inputs of `relativeIds`. */
const ROWS = "relative_rows";
const ENTRIES = "relative_entries";

/**
 * DeBERTa-v2 and -v3 (He et al. 2021, 2023): BERT whose scores are also products of queries and keys with projected embeddings
 * of their distance. Embeddings at padding are not set to 0 as in transformers, since nothing that counts reads them.
 */
export function deberta(config: Readonly<Record<string, unknown>>): Model {
  const c = configOf(config);
  const task = taskOf(config, "deberta-v2", ENCODER_TASKS, "sequence_classification");
  const { hidden_size: hidden, hidden_dropout_prob: dropout } = c;
  const headSize = hidden / c.num_attention_heads;
  return textEncoder({
    family: "deberta-v2",
    prefix: "deberta",
    config,
    head: encoderHead(config, {
      task,
      hidden,
      tokenDropout: dropout,
      classifier: () =>
        firstTokenClassifier(config, {
          task,
          hidden,
          dense: "pooler.dense",
          activation: "gelu",
          inputDropout: c.pooler_dropout,
          dropout: c.cls_dropout ?? dropout,
        }),
    }),
    // Files have embeddings of positions that transformers does not read either.
    otherHeads: [
      "cls",
      "lm_predictions",
      "mask_predictions",
      String.raw`(?:deberta\.)?embeddings\.position_embeddings`,
    ],
    layers: {
      count: c.num_hidden_layers,
      path: (index) => `${ENCODER}.layer.${index}`,
      modules: MODULES,
      norms: "after",
      hidden,
      heads: c.num_attention_heads,
      neurons: c.intermediate_size,
      eps: c.layer_norm_eps,
      approximation: activationOf(c.hidden_act, GELU_ACTIVATIONS),
      dropout: { weights: c.attention_probs_dropout_prob, attention: dropout, feedForward: dropout },
      relative: (forward, path) => relativeRows(forward, path, c),
      // A score is the sum of three products.
      scoreScale: 1 / Math.sqrt(3 * headSize),
    },
    vocabulary: c.vocab_size,
    padId: c.pad_token_id,
    positions: c.position_biased_input ? { rows: c.max_position_embeddings, kind: "absolute" } : undefined,
    tokenTypes: c.type_vocab_size,
    dropout,
    defaultTargets: ["query_proj", "value_proj"],
    parameters: [
      { name: TABLE, shape: [2 * c.position_buckets, hidden], layer: undefined },
      ...normParameters(`${ENCODER}.LayerNorm`, hidden, undefined),
    ],
    constants(positions) {
      const { rows, entries } = relativeIds(positions.length, c);
      return { [ROWS]: rows, [ENTRIES]: entries };
    },
  });
}

/** @throws ConfigError for widths that differ, too. */
function configOf(config: Readonly<Record<string, unknown>>): Config {
  const { pos_att_type: types } = config;
  const c = parseConfig(SCHEMA, { ...config, pos_att_type: Array.isArray(types) ? types.join("|") : types });
  const widths = v.object({
    embedding_size: only(c.hidden_size),
    pooler_hidden_size: only(c.hidden_size),
    attention_head_size: only(c.hidden_size / c.num_attention_heads),
  });
  parseConfig(widths, config);
  return c;
}

/**
 * A layer's positions: its own projections, adapters included, of the normed embeddings of distances, as keys and as queries.
 * Their dropout acts in each layer anew.
 */
function relativeRows(forward: Forward, path: string, c: Config): RelativePositions {
  const { recorder } = forward;
  const normed = forward.once("embeddings of distances", () =>
    recorder.labelled(ENCODER, () => {
      const { rows } = relativeIds(forward.length, c);
      const ids = recorder.input(ROWS, [1, rows.length], "i32");
      const x = recorder.apply(embedding, { table: forward.parameter(TABLE), ids }, {});
      return forward.layerNorm(`${ENCODER}.LayerNorm`, x, c.layer_norm_eps);
    }),
  );
  const both = forward.ofBatch(() => {
    const dropped = forward.dropout(normed, c.hidden_dropout_prob);
    const keys = forward.linear(`${path}.${MODULES.key}`, dropped);
    const queries = forward.linear(`${path}.${MODULES.query}`, dropped);
    return recorder.labelled(`${path}.attention.self`, () => recorder.apply(prepend, { head: keys, x: queries }, {}));
  });
  const table = recorder.labelled(`${path}.attention.self`, () => {
    const ids = recorder.input(ENTRIES, [2 * forward.length - 1, 2], "i32");
    return recorder.apply(embedding, { table: both, ids }, {});
  });
  return { op: relativeAttention, table };
}

/** Keys of config.json that say how distances are cut into buckets. */
type BucketSizes = Pick<Config, "position_buckets" | "max_relative_positions" | "max_position_embeddings">;

/**
 * The row of the table [2 * position_buckets, hidden] for a distance, query minus key: one for each short distance, and
 * logarithmically wider ones up to the maximum (transformers' `make_log_bucket_position`).
 */
export function distanceRow(distance: number, sizes: BucketSizes): number {
  const { position_buckets: span, max_relative_positions: given, max_position_embeddings: positions } = sizes;
  const exact = Math.floor(span / 2);
  const most = given < 1 ? positions : given;
  const wide = Math.log(Math.abs(distance) / exact) / Math.log((most - 1) / exact);
  const bucket = Math.sign(distance) * (Math.ceil(wide * (exact - 1)) + exact);
  return Math.min(Math.max((Math.abs(distance) <= exact ? distance : bucket) + span, 0), 2 * span - 1);
}

/**
 * Rows of the table that texts of so many tokens read, and for each distance, from 1 - tokens to tokens - 1, its row among them
 * as a key, and as a query that follows all keys.
 */
function relativeIds(tokens: number, sizes: BucketSizes): { rows: Int32Array; entries: Int32Array } {
  const used = Array.from({ length: 2 * tokens - 1 }, (_, i) => distanceRow(i + 1 - tokens, sizes));
  const first = used.reduce((a, b) => Math.min(a, b));
  const last = used.reduce((a, b) => Math.max(a, b));
  const length = last - first + 1;
  return {
    rows: Int32Array.from({ length }, (_, i) => first + i),
    entries: Int32Array.from(used.flatMap((row) => [row - first, row - first + length])),
  };
}
