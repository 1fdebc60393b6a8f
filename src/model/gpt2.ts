import * as v from "valibot";
import { gelu } from "../ops/gelu";
import type { Value } from "../tape/tape";
import {
  activationOf,
  count,
  GELU_ACTIVATIONS,
  layerCount,
  only,
  parseConfig,
  probability,
  withOwnNames,
} from "./config";
import type { Forward } from "./forward";
import { answerSpan, DECODER_TASKS, languageModel, lastTokenScore, taskOf } from "./heads";
import type { FinalNorm, Head } from "./heads";
import { layersOf, normParameters, projectionParameters } from "./model";
import type { Model, ParameterSpec, Projection, ProjectionRole } from "./model";
import { layerStructures } from "./structure";

const SCHEMA = v.object({
  vocab_size: count,
  n_positions: count,
  n_embd: count,
  n_layer: layerCount,
  n_head: count,
  n_inner: v.nullish(count),
  layer_norm_epsilon: v.optional(v.number(), 1e-5),
  activation_function: v.optional(v.string(), "gelu_new"),
  embd_pdrop: v.optional(probability, 0.1),
  attn_pdrop: v.optional(probability, 0.1),
  resid_pdrop: v.optional(probability, 0.1),
  pad_token_id: v.nullish(v.pipe(v.number(), v.integer(), v.minValue(0))),
  tie_word_embeddings: v.optional(v.boolean(), true),
  scale_attn_weights: v.optional(v.boolean(), true),
  /** Whether scores are divided by the number of the layer, from 1, as well. */
  scale_attn_by_inverse_layer_idx: v.optional(v.boolean(), false),
  add_cross_attention: only(false),
  pruned_heads: v.optional(v.strictObject({})),
});

type Config = v.InferOutput<typeof SCHEMA>;

const OWN_NAMES = {
  hidden_size: "n_embd",
  max_position_embeddings: "n_positions",
  num_attention_heads: "n_head",
  num_hidden_layers: "n_layer",
};

/**
 * GPT-2 (Radford et al. 2019), pre-norm: a language model (whose head is mostly tied to the token embeddings), classification,
 * question answering.
 */
export function gpt2(config: Readonly<Record<string, unknown>>): Model {
  const c = parseConfig(SCHEMA, withOwnNames(config, OWN_NAMES));
  const approximation = activationOf(c.activation_function, GELU_ACTIVATIONS);
  const head = gpt2Head(config, c);
  const projections = [...gpt2Projections(c), ...head.projections];
  return {
    family: "gpt2",
    config,
    task: head.task,
    classes: head.classes,
    heads: head.heads,
    parameters: gpt2Parameters(c, projections),
    projections,
    layers: c.n_layer,
    hiddenSize: c.n_embd,
    vocabularySize: c.vocab_size,
    maxLength: c.n_positions,
    canPack: true,
    padId: c.pad_token_id ?? 0,
    wordEmbeddings: "transformer.wte.weight",
    defaultTargets: ["c_attn"],
    prefixHeads: c.n_head,
    aliases: (name) => [name, name.replace(/^transformer\./, "")],
    ignores: (name) =>
      /\.attn\.(bias|masked_bias)$|^(?:lm_head|score|qa_outputs|classifier|multiple_choice_head)\./.test(name),
    structures: (index) =>
      layerStructures(index, projections, {
        heads: c.n_head,
        headSize: c.n_embd / c.n_head,
        neurons: c.n_inner ?? 4 * c.n_embd,
      }),
    embed(forward) {
      return forward.recorder.labelled("transformer.wte", () => {
        const words = forward.tokenEmbeddings(forward.parameter("transformer.wte.weight"));
        const embedded = forward.withPositions(words, forward.parameter("transformer.wpe.weight"));
        return forward.dropout(embedded, c.embd_pdrop);
      });
    },
    activation: approximation === "tanh" ? "gelu_tanh" : "gelu",
    hiddenDropout: c.resid_pdrop,
    ...layersOf({
      attention: (forward, index, x) => attentionPart(forward, c, index, x),
      feedForward: (forward, index, x) => feedForwardPart(forward, c, approximation, index, x),
    }),
    head: (forward, x) => head.apply(forward, x),
    output: head.output,
    tiedOutput: head.tiedOutput,
  };
}

function gpt2Head(config: Readonly<Record<string, unknown>>, c: Config): Head {
  const norm: FinalNorm = (forward, x) => forward.layerNorm("transformer.ln_f", x, c.layer_norm_epsilon);
  const task = taskOf(config, "gpt2", DECODER_TASKS, "causal_lm");
  if (task === "question_answering") return answerSpan(c.n_embd, norm);
  if (task !== "causal_lm") return lastTokenScore(config, { task, hidden: c.n_embd, norm });
  return languageModel(c.vocab_size, {
    hidden: c.n_embd,
    norm,
    tiedTo: c.tie_word_embeddings ? "transformer.wte.weight" : undefined,
  });
}

/** Factor of a layer's scores. */
function scoreScale(c: Config, layer: number): number {
  const bySize = c.scale_attn_weights ? 1 / Math.sqrt(c.n_embd / c.n_head) : 1;
  return c.scale_attn_by_inverse_layer_idx ? bySize / (layer + 1) : bySize;
}

function attentionPart(forward: Forward, c: Config, index: number, x: Value): Value {
  const path = `transformer.h.${index}`;
  const before = forward.layerNorm(`${path}.ln_1`, x, c.layer_norm_epsilon);
  const qkv = forward.linear(`${path}.attn.c_attn`, before);
  const mixed = forward.fusedAttention(`${path}.attn`, qkv, {
    headSize: c.n_embd / c.n_head,
    causal: true,
    dropout: c.attn_pdrop,
    scale: scoreScale(c, index),
  });
  const attended = forward.dropout(forward.linear(`${path}.attn.c_proj`, mixed), c.resid_pdrop);
  return forward.block({ name: `${path}.attn`, layer: index, x: attended, input: before, residual: x });
}

function feedForwardPart(
  forward: Forward,
  c: Config,
  approximation: "none" | "tanh",
  index: number,
  between: Value,
): Value {
  const path = `transformer.h.${index}`;
  const inner = forward.layerNorm(`${path}.ln_2`, between, c.layer_norm_epsilon);
  const narrow = forward.feedForward(index, () => {
    const wide = forward.linear(`${path}.mlp.c_fc`, inner);
    const active = forward.recorder.labelled(`${path}.mlp`, () =>
      forward.recorder.apply(gelu, { x: wide }, { approximation }),
    );
    return forward.dropout(forward.linear(`${path}.mlp.c_proj`, active), c.resid_pdrop);
  });
  return forward.block({ name: `${path}.mlp`, layer: index, x: narrow, input: inner, residual: between });
}

function gpt2Projections(c: Config): Projection[] {
  const { n_embd: d } = c;
  const wide = c.n_inner ?? 4 * d;
  return Array.from({ length: c.n_layer }, (_, layer) => {
    const conv = (role: ProjectionRole, module: string, from: number, to: number): Projection => {
      return { name: `transformer.h.${layer}.${module}`, in: from, out: to, layout: "in_out", bias: true, layer, role };
    };
    return [
      conv("query_key_value", "attn.c_attn", d, 3 * d),
      conv("attention_output", "attn.c_proj", d, d),
      conv("feed_forward_in", "mlp.c_fc", d, wide),
      conv("feed_forward_out", "mlp.c_proj", wide, d),
    ];
  }).flat();
}

function gpt2Parameters(c: Config, projections: readonly Projection[]): ParameterSpec[] {
  const { n_embd: d } = c;
  const layerNorms = (layer: number): ParameterSpec[] => [
    ...normParameters(`transformer.h.${layer}.ln_1`, d, layer),
    ...normParameters(`transformer.h.${layer}.ln_2`, d, layer),
  ];
  return [
    { name: "transformer.wte.weight", shape: [c.vocab_size, d], layer: "below" },
    { name: "transformer.wpe.weight", shape: [c.n_positions, d], layer: "below" },
    ...projections
      .flatMap((projection) => projectionParameters(projection))
      .map((spec) => {
        const endsSubLayer = spec.name.endsWith(".c_proj.weight");
        return endsSubLayer ? { ...spec, initialScale: 1 / Math.sqrt(2 * c.n_layer) } : spec;
      }),
    ...Array.from({ length: c.n_layer }, (_, layer) => layerNorms(layer)).flat(),
    ...normParameters("transformer.ln_f", d, undefined),
  ];
}
