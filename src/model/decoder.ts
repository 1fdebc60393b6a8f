import * as v from "valibot";
import { ConfigError } from "../base/errors";
import { rope } from "../ops/rope";
import { takeColumns } from "../ops/take_columns";
import type { Value } from "../tape/tape";
import { activate, activateGate } from "./activation";
import { count, layerCount, probability } from "./config";
import { headsIn } from "./forward";
import type { AttentionShape, Forward } from "./forward";
import { answerSpan, DECODER_TASKS, languageModel, lastTokenScore, taskOf } from "./heads";
import type { FinalNorm, Head } from "./heads";
import { layersOf, projectionParameters } from "./model";
import type { LayerParts, Model, ParameterSpec, Projection, ProjectionRole, Task, TensorPlace } from "./model";
import { ROTATION_KEYS, rotationOf, rotationTable } from "./rotation";
import type { Rotation } from "./rotation";
import { layerStructures } from "./structure";

/** Keys of config.json that all decoders have. Defaults are those of most families. */
export const DECODER_KEYS = {
  vocab_size: count,
  hidden_size: count,
  intermediate_size: count,
  num_hidden_layers: layerCount,
  num_attention_heads: count,
  num_key_value_heads: v.nullish(count),
  head_dim: v.nullish(count),
  max_position_embeddings: v.optional(count, 2048),
  attention_dropout: v.nullish(probability, 0),
  tie_word_embeddings: v.optional(v.boolean(), false),
  pad_token_id: v.nullish(v.pipe(v.number(), v.integer())),
  ...ROTATION_KEYS,
} as const;

export const DECODER_SCHEMA = v.object(DECODER_KEYS);

/** Activations of the gate, by their names in config.json. */
export const GATE_ACTIVATIONS = {
  silu: "silu",
  swish: "silu",
  gelu: "gelu",
  gelu_new: "gelu_tanh",
  gelu_fast: "gelu_tanh",
  gelu_pytorch_tanh: "gelu_tanh",
} as const;

/** The kinds of layers: which of them attend to a window. */
export const LAYER_TYPES = v.nullish(v.array(v.picklist(["full_attention", "sliding_attention"])));

interface WindowKeys {
  readonly num_hidden_layers: number;
  /** Tokens that one attends to, itself included; null for all. */
  readonly sliding_window?: number | null | undefined;
  readonly layer_types?: v.InferOutput<typeof LAYER_TYPES>;
}

/**
 * The windows of layers: those that `layer_types` calls sliding, else those for which `isWindowed` holds.
 * @throws ConfigError for sliding layers without a window, and for a list that is too short.
 */
export function windowsOf(
  { num_hidden_layers: layers, sliding_window: window, layer_types: types }: WindowKeys,
  isWindowed: (layer: number) => boolean,
): NonNullable<Decoder["attentionOf"]> {
  const isShort = types && types.length < layers;
  if (isShort || (types?.includes("sliding_attention") && !window)) {
    throw new ConfigError(
      isShort
        ? `config.json: layer_types has ${types.length} entries for ${layers} layers.`
        : "config.json: layer_types has sliding_attention, and there is no sliding_window in use.",
      "Correct config.json.",
    );
  }
  const isSliding = (layer: number): boolean => (types ? types[layer] === "sliding_attention" : isWindowed(layer));
  return (layer) => (window && isSliding(layer) ? { window: window - 1 } : {});
}

/** LLaMA's names of modules in checkpoints. Layers are BODY.layers.N. */
const NAMES = {
  body: "model",
  /** `body` in a model that answers questions. */
  answeringBody: "transformer",
  embeddings: "embed_tokens",
  finalNorm: "norm",
  output: "lm_head",
  attention: "self_attn",
  query: "q_proj",
  key: "k_proj",
  value: "v_proj",
  queryKeyValue: "qkv_proj",
  attentionOutput: "o_proj",
  feedForward: "mlp",
  gate: "gate_proj",
  up: "up_proj",
  gateAndUp: "gate_up_proj",
  down: "down_proj",
};

/** Norms of a sub-layer, by their names: of what it reads, and of what it gives before the residual is added. */
export interface SubLayerNorms {
  readonly before?: string;
  readonly after?: string;
}

/** A decoder in one configuration: in what it differs from LLaMA. */
export interface Decoder {
  readonly family: string;
  readonly config: Readonly<Record<string, unknown>>;
  /** Its parsed keys. */
  readonly c: v.InferOutput<typeof DECODER_SCHEMA>;
  readonly eps: number;
  /** What the family has heads for. Default `DECODER_TASKS`. */
  readonly tasks?: readonly Task[];
  readonly names?: Partial<typeof NAMES>;
  /**
   * How queries, keys and values are projected: separately (default); by one projection whose rows are q | k | v ("rows"), or
   * q | k | v of the first head, then of the second ("heads").
   */
  readonly queryKeyValue?: "separate" | "rows" | "heads";
  /** Which of the gate and what it multiplies there are, and whether one projection gives both. Default "separate". */
  readonly gate?: "separate" | "fused" | "none";
  /** Activation of the gate, or of the feed-forward without one. Default silu. */
  readonly activation?: "silu" | "gelu" | "gelu_tanh";
  /** Projections with a bias. Default none. */
  readonly biases?: Partial<Record<"queryKeyValue" | "attentionOutput" | "feedForward", boolean>>;
  readonly norms?: {
    /** Default "rms". */
    readonly kind?: "rms" | "layer";
    /** What is added to the weights. Default 0. */
    readonly offset?: number;
    readonly attention: SubLayerNorms;
    readonly feedForward: SubLayerNorms;
  };
  /** Norms q_norm and k_norm: of each head with the same weight, or of all heads together. Default none. */
  readonly headNorms?: "head" | "width";
  /** Rotations by name. Default one, "rotation". */
  readonly rotations?: Readonly<Record<string, Rotation>>;
  /** The rotation of a layer; undefined for none. Default "rotation" for all. */
  rotationOf?(layer: number): string | undefined;
  /** What else differs between the attention of layers. */
  attentionOf?(layer: number): Partial<AttentionShape>;
  /** Whether the feed-forward reads the layer's input, as attention does. Default false. */
  readonly isParallel?: boolean;
  /** Factor of the embeddings. Default 1. */
  readonly embeddingScale?: number;
  /** Soft cap c of the logits: c tanh(logit / c). Default none. */
  readonly logitCap?: number | undefined;
  /** Probabilities of dropout on embeddings and on sub-layers' outputs. Default 0. */
  readonly dropout?: { readonly embeddings: number; readonly hidden: number };
  /** Default the projections of queries and values. */
  readonly defaultTargets?: readonly string[];
  readonly biasKeys?: Model["biasKeys"];
  readonly renamed?: Model["renamed"];
}

/** A decoder whose defaults are filled in. */
interface Complete extends Decoder {
  readonly names: typeof NAMES;
  readonly norms: NonNullable<Decoder["norms"]>;
  readonly rotations: NonNullable<Decoder["rotations"]>;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headSize: number;
}

const LLAMA_NORMS = {
  attention: { before: "input_layernorm" },
  feedForward: { before: "post_attention_layernorm" },
} as const;

/** LLaMA and its kin: rotary positions, grouped queries, a gated feed-forward, and what of that a family has otherwise. */
export function decoder(given: Decoder): Model {
  const { c, config, family } = given;
  const task = taskOf(config, family, given.tasks ?? DECODER_TASKS, "causal_lm");
  const allNames = { ...NAMES, ...given.names };
  const body = task === "question_answering" ? allNames.answeringBody : allNames.body;
  const names = { ...allNames, body };
  const sizes = headSizes(c);
  const rotations = given.rotations ?? { rotation: rotationOf(c, { ...sizes, maxLength: c.max_position_embeddings }) };
  const d: Complete = { ...given, ...sizes, names, norms: given.norms ?? LLAMA_NORMS, rotations };
  const head = headOf(d, task);
  const projections = [...layerProjections(d), ...head.projections];
  const embeddings = `${body}.${names.embeddings}`;
  const attention: LayerParts["attention"] = (forward, index, x) => attentionPart(forward, d, index, x);
  return {
    family,
    config,
    projections,
    task,
    classes: head.classes,
    heads: head.heads,
    parameters: parametersOf(d, projections),
    layers: c.num_hidden_layers,
    hiddenSize: c.hidden_size,
    vocabularySize: c.vocab_size,
    maxLength: c.max_position_embeddings,
    canPack: true,
    padId: Math.max(0, c.pad_token_id ?? 0),
    wordEmbeddings: `${embeddings}.weight`,
    embeddingScale: d.embeddingScale,
    defaultTargets: d.defaultTargets ?? [names.query, names.value],
    ...(d.biasKeys && { biasKeys: d.biasKeys }),
    aliases: (name) => [name, ...["model.", "transformer.", ""].map((prefix) => name.replace(`${body}.`, prefix))],
    ...(d.renamed && { renamed: d.renamed }),
    ignores: (name) => UNUSED.test(name),
    constants: (positions, { length }) => {
      const tables = Object.entries(rotations).map(([key, rotation]) => {
        return [key, rotationTable(rotation, positions, length)] as const;
      });
      return Object.fromEntries(tables);
    },
    prefixHeads: d.kvHeads,
    constantsChangeAbove: Object.values(rotations).find(({ long }) => long)?.long?.above,
    structures: (index) => structuresOf(d, index, projections),
    embed: (forward) =>
      forward.recorder.labelled(embeddings, () => {
        const x = forward.tokenEmbeddings(forward.parameter(`${embeddings}.weight`), d.embeddingScale);
        return forward.dropout(x, d.dropout?.embeddings ?? 0);
      }),
    activation: d.activation ?? "silu",
    hiddenDropout: d.dropout?.hidden ?? 0,
    ...(d.isParallel
      ? { layer: (forward, index, x) => feedForwardPart(forward, d, index, attention(forward, index, x), x) }
      : layersOf({ attention, feedForward: (forward, index, x) => feedForwardPart(forward, d, index, x, x) })),
    head: (forward, x) => head.apply(forward, x),
    output: head.output,
    tiedOutput: head.tiedOutput,
  };
}

/** Buffers of older checkpoints, and heads of other tasks. */
const UNUSED =
  /rotary_emb\.inv_freq$|\.attention\.(?:bias|masked_bias)$|^(?:lm_head|embed_out|score|qa_outputs|classifier)\./;

/** Number and size of heads. @throws ConfigError for sizes that do not fit each other. */
export function headSizes(c: v.InferOutput<typeof DECODER_SCHEMA>): {
  heads: number;
  kvHeads: number;
  headSize: number;
} {
  const heads = c.num_attention_heads;
  const kvHeads = c.num_key_value_heads ?? heads;
  const headSize = c.head_dim ?? c.hidden_size / heads;
  if (!Number.isInteger(headSize) || headSize % 2 !== 0 || heads % kvHeads !== 0) {
    throw new ConfigError(
      `config.json: a hidden size of ${c.hidden_size} cannot be split into ${heads} heads with ${kvHeads} key-value heads.`,
      "The size of a head must be an even integer, and the number of heads a multiple of num_key_value_heads.",
    );
  }
  return { heads, kvHeads, headSize };
}

function headOf(d: Complete, task: Task): Head {
  const { c, config, names } = d;
  const hidden = c.hidden_size;
  const norm: FinalNorm = (forward, x) => normalised(forward, d, `${names.body}.${names.finalNorm}`, x);
  if (task === "question_answering") return answerSpan(hidden, norm);
  if (task !== "causal_lm") return lastTokenScore(config, { task, hidden, norm });
  const tiedTo = c.tie_word_embeddings ? `${names.body}.${names.embeddings}.weight` : undefined;
  return languageModel(c.vocab_size, { hidden, norm, tiedTo, name: names.output, cap: d.logitCap });
}

const normalised = (forward: Forward, { norms, eps }: Complete, name: string, x: Value): Value =>
  norms.kind === "layer" ? forward.layerNorm(name, x, eps) : forward.rmsNorm(name, x, eps);

/** The norm of that name, or x where there is none. */
const maybeNormalised = (forward: Forward, d: Complete, path: string, name: string | undefined, x: Value): Value =>
  name === undefined ? x : normalised(forward, d, `${path}.${name}`, x);

function attentionPart(forward: Forward, d: Complete, index: number, x: Value): Value {
  const { names, norms, headSize } = d;
  const layer = `${names.body}.layers.${index}`;
  const name = `${layer}.${names.attention}`;
  const input = maybeNormalised(forward, d, layer, norms.attention.before, x);
  const [q, k, value] = queriesKeysValues(forward, d, name, input);
  const normed = (part: string, projected: Value): Value =>
    d.headNorms ? normalised(forward, d, `${name}.${part}_norm`, projected) : projected;
  // Both rotations follow each other, so that a device can join them.
  const [queries, keys] = [normed("q", q), normed("k", k)];
  const rotate = (x: Value): Value => rotated(forward, d, index, name, x);
  const shape = { headSize, causal: true, dropout: d.c.attention_dropout, ...d.attentionOf?.(index) };
  const mixed = forward.attention(name, { q: rotate(queries), k: rotate(keys), v: value }, shape);
  const dropped = forward.dropout(forward.linear(`${name}.${names.attentionOutput}`, mixed), d.dropout?.hidden ?? 0);
  const attended = maybeNormalised(forward, d, layer, norms.attention.after, dropped);
  return forward.block({ name, layer: index, x: attended, input, residual: x });
}

/** Queries or keys, rotated by their positions where the layer has a rotation. */
function rotated(forward: Forward, d: Complete, index: number, name: string, x: Value): Value {
  const rotation = d.rotationOf ? d.rotationOf(index) : "rotation";
  if (rotation === undefined) return x;
  const table = forward.rotation(rotation, d.rotations[rotation]!.frequencies.length);
  const heads = headsIn(x, d);
  return forward.recorder.labelled(name, () => forward.recorder.apply(rope, { x, table }, { heads }));
}

/** Queries, keys and values. Their widths follow from those of the projections, since pruned layers have fewer heads. */
function queriesKeysValues(forward: Forward, d: Complete, path: string, x: Value): readonly [Value, Value, Value] {
  const { names, headSize } = d;
  if ((d.queryKeyValue ?? "separate") === "separate") {
    const project = (part: string): Value => forward.linear(`${path}.${part}`, x);
    return [project(names.query), project(names.key), project(names.value)];
  }
  const all = forward.linear(`${path}.${names.queryKeyValue}`, x);
  const width = all.shape.at(-1)!;
  const take = (offset: number, size: number, groups: number, stride: number): Value =>
    forward.recorder.labelled(`${path}.${names.queryKeyValue}`, () =>
      forward.recorder.apply(takeColumns, { x: all }, { offset, size, groups, stride }),
    );
  if (d.queryKeyValue === "heads") {
    const takePart = (part: number): Value => take(part * headSize, headSize, width / (3 * headSize), 3 * headSize);
    return [takePart(0), takePart(1), takePart(2)];
  }
  const queriesPerKey = d.heads / d.kvHeads;
  const keys = width / (queriesPerKey + 2);
  const queries = queriesPerKey * keys;
  return [take(0, queries, 1, queries), take(queries, keys, 1, keys), take(queries + keys, keys, 1, keys)];
}

function feedForwardPart(forward: Forward, d: Complete, index: number, residual: Value, x: Value): Value {
  const { names, norms } = d;
  const layer = `${names.body}.layers.${index}`;
  const name = `${layer}.${names.feedForward}`;
  const input = maybeNormalised(forward, d, layer, norms.feedForward.before, x);
  const narrow = forward.feedForward(index, () =>
    forward.dropout(forward.linear(`${name}.${names.down}`, neurons(forward, d, name, input)), d.dropout?.hidden ?? 0),
  );
  const normed = maybeNormalised(forward, d, layer, norms.feedForward.after, narrow);
  return forward.block({ name, layer: index, x: normed, input, residual });
}

/** The activated neurons of a feed-forward. */
function neurons(
  forward: Forward,
  { names, gate = "separate", activation = "silu" }: Complete,
  path: string,
  x: Value,
) {
  const { recorder } = forward;
  return recorder.labelled(path, () => {
    if (gate === "none") return activate(recorder, activation, forward.linear(`${path}.${names.up}`, x));
    const inputs = gate === "fused" ? halves(forward, `${path}.${names.gateAndUp}`, x) : separate();
    return activateGate(recorder, activation, inputs);
  });

  function separate() {
    return { gate: forward.linear(`${path}.${names.gate}`, x), up: forward.linear(`${path}.${names.up}`, x) };
  }
}

/** The gate and what it multiplies, by one projection that gives both. */
function halves(forward: Forward, projection: string, x: Value): { gate: Value; up: Value } {
  const both = forward.linear(projection, x);
  const size = both.shape.at(-1)! / 2;
  const half = (offset: number): Value =>
    forward.recorder.labelled(projection, () =>
      forward.recorder.apply(takeColumns, { x: both }, { offset, size, groups: 1, stride: size }),
    );
  return { gate: half(0), up: half(size) };
}

function layerProjections(d: Complete): Projection[] {
  const { names, heads, kvHeads, headSize, gate = "separate", queryKeyValue = "separate", biases = {} } = d;
  const { hidden_size: hidden, intermediate_size: wide, num_hidden_layers: layers } = d.c;
  return Array.from({ length: layers }, (_, layer) => {
    const dense =
      (module: string, bias = false) =>
      (role: ProjectionRole, part: string, from: number, to: number): Projection => {
        const name = `${names.body}.layers.${layer}.${module}.${part}`;
        return { name, in: from, out: to, layout: "out_in", bias, layer, role };
      };
    const inputOf = dense(names.attention, biases.queryKeyValue);
    const neuronsOf = dense(names.feedForward, biases.feedForward);
    return [
      ...(queryKeyValue === "separate"
        ? [
            inputOf("query", names.query, hidden, heads * headSize),
            inputOf("key", names.key, hidden, kvHeads * headSize),
            inputOf("value", names.value, hidden, kvHeads * headSize),
          ]
        : [inputOf("query_key_value", names.queryKeyValue, hidden, (heads + 2 * kvHeads) * headSize)]),
      dense(names.attention, biases.attentionOutput)(
        "attention_output",
        names.attentionOutput,
        heads * headSize,
        hidden,
      ),
      ...(gate === "separate" ? [neuronsOf("feed_forward_in", names.gate, hidden, wide)] : []),
      gate === "fused"
        ? neuronsOf("feed_forward_in", names.gateAndUp, hidden, 2 * wide)
        : neuronsOf("feed_forward_in", names.up, hidden, wide),
      neuronsOf("feed_forward_out", names.down, wide, hidden),
    ];
  }).flat();
}

function parametersOf(d: Complete, projections: readonly Projection[]): ParameterSpec[] {
  const { c, names, norms, headNorms, headSize } = d;
  const norm = (name: string, size: number, layer: TensorPlace): ParameterSpec[] => {
    const place = `${names.body}.${name}`;
    const weight = { name: `${place}.weight`, shape: [size], layer, ...(norms.offset && { offset: norms.offset }) };
    return norms.kind === "layer" ? [weight, { name: `${place}.bias`, shape: [size], layer }] : [weight];
  };
  const layerNorms = (layer: number): ParameterSpec[] => {
    const { attention, feedForward } = norms;
    const present = [attention.before, attention.after, feedForward.before, feedForward.after];
    const parts = [["q_norm", d.heads] as const, ["k_norm", d.kvHeads] as const];
    return [
      ...present.flatMap((name) => (name === undefined ? [] : norm(`layers.${layer}.${name}`, c.hidden_size, layer))),
      ...parts.flatMap(([part, heads]) => {
        if (!headNorms) return [];
        const size = headNorms === "head" ? headSize : heads * headSize;
        return norm(`layers.${layer}.${names.attention}.${part}`, size, layer);
      }),
    ];
  };
  return [
    { name: `${names.body}.${names.embeddings}.weight`, shape: [c.vocab_size, c.hidden_size], layer: "below" },
    ...projections.flatMap((projection) => projectionParameters(projection)),
    ...Array.from({ length: c.num_hidden_layers }, (_, layer) => layerNorms(layer)).flat(),
    ...norm(names.finalNorm, c.hidden_size, undefined),
  ];
}

/** Heads and neurons. Heads that are normed together cannot be pruned one by one. */
function structuresOf(d: Complete, index: number, projections: readonly Projection[]) {
  const sizes = { ...d, neurons: d.c.intermediate_size, isInterleaved: d.queryKeyValue === "heads" };
  const all = layerStructures(index, projections, { ...sizes, isGateFused: d.gate === "fused" });
  return d.headNorms === "width" ? all.filter(({ kind }) => kind !== "heads") : all;
}
