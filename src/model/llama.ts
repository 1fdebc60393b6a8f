import * as v from "valibot";
import { ConfigError } from "../base/errors";
import { rope } from "../ops/rope";
import { swiglu } from "../ops/swiglu";
import type { Value } from "../tape/tape";
import { activationOf, count, layerCount, parseConfig, probability } from "./config";
import { headsIn } from "./forward";
import type { Forward } from "./forward";
import { answerSpan, DECODER_TASKS, languageModel, lastTokenScore, taskOf } from "./heads";
import type { FinalNorm, Head } from "./heads";
import { layersOf, projectionParameters } from "./model";
import type { Model, ParameterSpec, Projection, ProjectionRole, Task } from "./model";
import { layerStructures } from "./structure";
import { ROTATION_SCHEMA, rotationFrequencies, rotationTable } from "./rotation";

const SCHEMA = v.object({
  vocab_size: count,
  hidden_size: count,
  intermediate_size: count,
  num_hidden_layers: layerCount,
  num_attention_heads: count,
  num_key_value_heads: v.nullish(count),
  head_dim: v.nullish(count),
  max_position_embeddings: v.optional(count, 2048),
  rms_norm_eps: v.optional(v.number(), 1e-6),
  ...ROTATION_SCHEMA.entries,
  hidden_act: v.optional(v.string(), "silu"),
  tie_word_embeddings: v.optional(v.boolean(), false),
  attention_bias: v.optional(v.boolean(), false),
  mlp_bias: v.optional(v.boolean(), false),
  attention_dropout: v.optional(probability, 0),
  pad_token_id: v.nullish(v.pipe(v.number(), v.integer())),
});

type Config = v.InferOutput<typeof SCHEMA>;

interface Sizes {
  readonly c: Config;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headSize: number;
}

/** LLaMA-2 and -3 (Touvron et al. 2023): pre-norm, rotary positions, grouped queries, gated feed-forward. */
export function llama(config: Readonly<Record<string, unknown>>): Model {
  const c = parseConfig(SCHEMA, config);
  activationOf(c.hidden_act, { silu: true });
  const sizes = sizesOf(c);
  const task = taskOf(config, "llama", DECODER_TASKS, "causal_lm");
  // Hugging Face calls the body of this one model "transformer".
  const body = task === "question_answering" ? "transformer" : "model";
  const head = llamaHead(config, c, task, body);
  const projections = [...layerProjections(sizes, body), ...head.projections];
  const frequencies = rotationFrequencies(c, sizes.headSize);
  return {
    family: "llama",
    config,
    projections,
    task,
    classes: head.classes,
    heads: head.heads,
    parameters: llamaParameters(c, body, projections),
    layers: c.num_hidden_layers,
    hiddenSize: c.hidden_size,
    vocabularySize: c.vocab_size,
    maxLength: c.max_position_embeddings,
    padId: Math.max(0, c.pad_token_id ?? 0),
    wordEmbeddings: `${body}.embed_tokens.weight`,
    defaultTargets: ["q_proj", "v_proj"],
    biasKeys: {
      attention_bias: ["query", "key", "value", "attention_output"],
      mlp_bias: ["feed_forward_in", "feed_forward_out"],
    },
    aliases: (name) => [name, ...["model.", "transformer.", ""].map((prefix) => name.replace(`${body}.`, prefix))],
    ignores: (name) => /rotary_emb\.inv_freq$|^(?:lm_head|score|qa_outputs)\./.test(name),
    constants: (positions) => ({ rotation: rotationTable(frequencies, positions) }),
    structures: (index) => layerStructures(index, projections, { ...sizes, neurons: c.intermediate_size }),
    embed: (forward) =>
      forward.recorder.labelled(`${body}.embed_tokens`, () =>
        forward.tokenEmbeddings(forward.parameter(`${body}.embed_tokens.weight`)),
      ),
    activation: "silu",
    hiddenDropout: 0,
    ...layersOf({
      attention: (forward, index, x) => attentionPart(forward, sizes, { path: `${body}.layers.${index}`, index }, x),
      feedForward: (forward, index, x) => feedForwardPart(forward, c, { path: `${body}.layers.${index}`, index }, x),
    }),
    head: (forward, x) => head.apply(forward, x),
    output: head.output,
  };
}

function llamaHead(config: Readonly<Record<string, unknown>>, c: Config, task: Task, body: string): Head {
  const hidden = c.hidden_size;
  const norm: FinalNorm = (forward, x) => forward.rmsNorm(`${body}.norm`, x, c.rms_norm_eps);
  if (task === "question_answering") return answerSpan(hidden, norm);
  if (task !== "causal_lm") return lastTokenScore(config, { task, hidden, norm });
  const tiedTo = c.tie_word_embeddings ? `${body}.embed_tokens.weight` : undefined;
  return languageModel(c.vocab_size, { hidden, norm, tiedTo });
}

function sizesOf(c: Config): Sizes {
  const heads = c.num_attention_heads;
  const kvHeads = c.num_key_value_heads ?? heads;
  const headSize = c.head_dim ?? c.hidden_size / heads;
  if (!Number.isInteger(headSize) || headSize % 2 !== 0 || heads % kvHeads !== 0) {
    throw new ConfigError(
      `config.json: a hidden size of ${c.hidden_size} cannot be split into ${heads} heads with ${kvHeads} key-value heads.`,
      "The size of a head must be an even integer, and the number of heads a multiple of num_key_value_heads.",
    );
  }
  return { c, heads, kvHeads, headSize };
}

/** A layer by its number, and the name of its module. */
interface LayerPath {
  readonly path: string;
  readonly index: number;
}

function attentionPart(forward: Forward, { c, headSize }: Sizes, { path, index }: LayerPath, x: Value): Value {
  const { recorder } = forward;
  const before = forward.rmsNorm(`${path}.input_layernorm`, x, c.rms_norm_eps);
  const project = (name: string): Value => forward.linear(`${path}.self_attn.${name}`, before);
  const rotated = (name: string, projected: Value): Value => {
    const inputs = { x: projected, table: forward.rotation(headSize / 2) };
    const heads = headsIn(projected, { headSize });
    return recorder.labelled(`${path}.self_attn.${name}`, () => recorder.apply(rope, inputs, { heads }));
  };
  // Both rotations follow both projections, so that a device can join them.
  const [q, k] = [project("q_proj"), project("k_proj")];
  const qkv = { q: rotated("q_proj", q), k: rotated("k_proj", k), v: project("v_proj") };
  const shape = { headSize, causal: true, dropout: c.attention_dropout };
  const mixed = forward.attention(`${path}.self_attn`, qkv, shape);
  const attended = forward.linear(`${path}.self_attn.o_proj`, mixed);
  return forward.block({ name: `${path}.self_attn`, layer: index, x: attended, input: before, residual: x });
}

function feedForwardPart(forward: Forward, c: Config, { path, index }: LayerPath, between: Value): Value {
  const { recorder } = forward;
  const inner = forward.rmsNorm(`${path}.post_attention_layernorm`, between, c.rms_norm_eps);
  const narrow = forward.feedForward(index, () => {
    const gate = forward.linear(`${path}.mlp.gate_proj`, inner);
    const up = forward.linear(`${path}.mlp.up_proj`, inner);
    const active = recorder.labelled(`${path}.mlp`, () => recorder.apply(swiglu, { gate, up }, {}));
    return forward.linear(`${path}.mlp.down_proj`, active);
  });
  return forward.block({ name: `${path}.mlp`, layer: index, x: narrow, input: inner, residual: between });
}

function layerProjections({ c, heads, kvHeads, headSize }: Sizes, body: string): Projection[] {
  const { hidden_size: d, intermediate_size: wide, attention_bias: attention, mlp_bias: mlp } = c;
  return Array.from({ length: c.num_hidden_layers }, (_, layer) => {
    const dense = (role: ProjectionRole, module: string, from: number, to: number, bias: boolean): Projection => {
      return { name: `${body}.layers.${layer}.${module}`, in: from, out: to, layout: "out_in", bias, layer, role };
    };
    return [
      dense("query", "self_attn.q_proj", d, heads * headSize, attention),
      dense("key", "self_attn.k_proj", d, kvHeads * headSize, attention),
      dense("value", "self_attn.v_proj", d, kvHeads * headSize, attention),
      dense("attention_output", "self_attn.o_proj", heads * headSize, d, attention),
      dense("feed_forward_in", "mlp.gate_proj", d, wide, mlp),
      dense("feed_forward_in", "mlp.up_proj", d, wide, mlp),
      dense("feed_forward_out", "mlp.down_proj", wide, d, mlp),
    ];
  }).flat();
}

function llamaParameters(c: Config, body: string, projections: readonly Projection[]): ParameterSpec[] {
  const norm = (name: string, layer: number | undefined): ParameterSpec => {
    return { name: `${body}.${name}.weight`, shape: [c.hidden_size], layer };
  };
  const layerNorms = (layer: number): ParameterSpec[] => [
    norm(`layers.${layer}.input_layernorm`, layer),
    norm(`layers.${layer}.post_attention_layernorm`, layer),
  ];
  return [
    { name: `${body}.embed_tokens.weight`, shape: [c.vocab_size, c.hidden_size], layer: "below" },
    ...projections.flatMap((projection) => projectionParameters(projection)),
    ...Array.from({ length: c.num_hidden_layers }, (_, layer) => layerNorms(layer)).flat(),
    norm("norm", undefined),
  ];
}
