import type { WeightFormat } from "../base/packed";
import type { Shape } from "../base/shape";
import type { StoredNames } from "./config";
import type { Forward } from "./forward";
import type { Structure } from "./structure";
import type { Value } from "../tape/tape";

/**
 * Where a tensor acts: its transformer layer, from 0; "below" for what computes the hidden states that enter the first layer
 * (embeddings, also where a language model's last projection shares their table); undefined for what reads those that leave
 * the last one (a head, its norm), and for what acts in several layers.
 */
export type TensorPlace = number | "below" | undefined;

/** A tensor of a checkpoint, by its Hugging Face name. */
export interface ParameterSpec {
  readonly name: string;
  readonly shape: Shape;
  readonly layer: TensorPlace;
  /** What is added to it where it is used: 1 for Gemma's norms. Default 0. */
  readonly offset?: number;
  /** How it is stored; default f32. */
  readonly dtype?: WeightFormat;
  /** All its elements in a model of random weights. Default random numbers, ones for norms, zeros for biases. */
  readonly initial?: number;
  /** Factor of the random numbers, whose deviation is config.json's `initializer_range`. Default 1. */
  readonly initialScale?: number;
  /** Whether it is a constant of the checkpoint, which is never trained, and zeros where a file lacks it. Default false. */
  readonly isBuffer?: boolean;
}

/**
 * What a projection of a transformer layer computes: queries, keys, values, or all three in this order; what attention gives
 * out; the feed-forward's neurons (a gate is one of several `feed_forward_in`), or what they give out; one token of several
 * (Swin).
 */
export type ProjectionRole =
  | "query"
  | "key"
  | "value"
  | "query_key_value"
  | "attention_output"
  | "feed_forward_in"
  | "feed_forward_out"
  | "token_merging";

/** A linear projection y = x W + bias, which an adapter may change. */
export interface Projection {
  /** Its module's name, without `.weight`. */
  readonly name: string;
  /** Number of input features. */
  readonly in: number;
  /** Number of output features. */
  readonly out: number;
  /** Layout of the weight: `out_in` as torch.nn.Linear stores it, `in_out` as GPT-2's Conv1D does. */
  readonly layout: "out_in" | "in_out";
  readonly bias: boolean;
  /** Where it acts: its layer, below the layers, or undefined for a pooler, a head, and what several layers share. */
  readonly layer: TensorPlace;
  /** Its part in its layer; undefined outside the layers. Methods choose modules by it, never by shape or by name. */
  readonly role: ProjectionRole | undefined;
}

/** Shape of a batch. */
export interface BatchSize {
  /** Rows: texts or images. */
  readonly size: number;
  /** Tokens of a row, padding included; of an encoder-decoder's encoder. */
  readonly length: number;
  /**
   * Tokens of a row of an encoder-decoder's decoder, padding included, or those that a masked language model predicts of a row;
   * undefined for other models.
   */
  readonly targetLength?: number | undefined;
  /** Whether rows hold several texts: positions then begin anew with each, and no text sees another. Default false. */
  readonly isPacked?: boolean | undefined;
}

/** The shape of a batch without what else is in it. */
export const shapeOf = ({ size, length, targetLength, isPacked }: BatchSize): BatchSize => ({
  size,
  length,
  ...(targetLength !== undefined && { targetLength }),
  ...(isPacked && { isPacked }),
});

/** A key that is equal for equal shapes. */
export const shapeKey = ({ size, length, targetLength, isPacked }: BatchSize): string =>
  `${size} x ${length}${targetLength === undefined ? "" : ` to ${targetLength}`}${isPacked ? ", packed" : ""}`;

/** What a model predicts. */
export type Task =
  | "sequence_classification"
  | "regression"
  | "token_classification"
  | "question_answering"
  | "causal_lm"
  | "masked_lm"
  | "seq2seq"
  | "image_classification";

/** What lies between the encoder and the decoder of an encoder-decoder. */
export interface EncoderDecoder {
  /** Number of layers of the encoder, which come first among the model's. */
  readonly encoderLayers: number;
  /** Token id with which the decoder begins. */
  readonly startId: number;
  /** Records what the decoder attends to: hidden states that leave the encoder to the same, both [size, length, hiddenSize]. */
  encoded(forward: Forward, x: Value): Value;
  /** Records the embeddings [size, targetLength, hiddenSize] that enter the decoder's first layer. */
  embed(forward: Forward): Value;
}

/** Sizes of the hidden states between two layers. */
export interface HiddenStates {
  readonly tokens: number;
  readonly width: number;
}

/** The shape of a batch's hidden states above some number of layers: [size, tokens, width]. */
export function statesShape(model: Model, layers: number, { size, length }: BatchSize): Shape {
  const { tokens, width } = model.states?.(layers) ?? { tokens: length, width: model.hiddenSize };
  return [size, tokens, width];
}

/** Input of an image model: square images, cut into square patches. */
export interface ImageSpec {
  /** Side of an image, in pixels. */
  readonly size: number;
  /** Side of a patch, in pixels. */
  readonly patch: number;
  readonly channels: number;
}

/** An activation of a feed-forward; a gate's, where there is one. */
export type Activation = "gelu" | "gelu_tanh" | "relu" | "silu";

/** The two parts of a layer: `layer` is the second of what the first gives. */
export interface LayerParts {
  attention(forward: Forward, index: number, x: Value): Value;
  feedForward(forward: Forward, index: number, x: Value): Value;
}

/**
 * A model family in one configuration: the names and shapes of its tensors, and how it is traced. It holds no weights, so
 * that a step can be planned without a device. Layers are traced one by one, so that scores can compare their outputs.
 */
export interface Model {
  /** The configuration's `model_type`. */
  readonly family: string;
  readonly task: Task;
  /** The parsed config.json. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Every tensor of the checkpoint, in a fixed order. */
  readonly parameters: readonly ParameterSpec[];
  readonly projections: readonly Projection[];
  /** Number of transformer layers; in an encoder-decoder the encoder's, then the decoder's. */
  readonly layers: number;
  /** The seam of an encoder-decoder; undefined for other models. */
  readonly encoderDecoder?: EncoderDecoder;
  /** Width of the hidden states that the head reads, and that enter every layer unless there are `states`. */
  readonly hiddenSize: number;
  /**
   * Tokens and width of the hidden states above some number of layers, of a model that takes fewer and wider tokens from layer
   * to layer (Swin). Default those of the batch, of width `hiddenSize`.
   */
  states?(layers: number): HiddenStates;
  /** Number of token ids; 0 for images. */
  readonly vocabularySize: number;
  /** Longest text, in tokens; Infinity where nothing limits it. Images always have this number of tokens. */
  readonly maxLength: number;
  /** Row of a table of positions that is a text's first token's. Default 0. */
  readonly firstPosition?: number;
  /**
   * Whether rows may hold several texts. Such a family reads positions by `Forward.rotation` and `Forward.withPositions` alone,
   * and attends by `Forward.attention` and `Forward.fusedAttention`. Default false.
   */
  readonly canPack?: boolean;
  /** Sizes of the images; undefined for text. */
  readonly image?: ImageSpec;
  /** Logits per prediction: 1 for regression, `vocabularySize` for a language model, 2 (start, end) for answers. */
  readonly classes: number;
  /** Token id that fills short rows. */
  readonly padId: number;
  /** Activation between the projections of the feed-forward. */
  readonly activation: Activation;
  /** Probability of dropout on a sub-layer's output. */
  readonly hiddenDropout: number;
  /** Modules of the task's head, which are trained in addition to an adapter (PEFT's `modules_to_save`). */
  readonly heads: readonly string[];
  /** Norms, and other modules without a projection, that only the task's head reads, but that belong to the checkpoint as a pooler does. Default none. */
  readonly normsOfHead?: readonly string[];
  /** `target_modules` of an adapter that names none, as in PEFT. */
  readonly defaultTargets: readonly string[];
  /** Keys of config.json that give projections a bias, with the roles of these projections. Default none. */
  readonly biasKeys?: Readonly<Record<string, readonly ProjectionRole[]>>;
  /** Names under which published checkpoints store a parameter; the first is `name` itself. */
  aliases(name: string): readonly string[];
  /** The name that transformers 5 gives to a module, where it differs: PEFT writes it into adapters. */
  renamed?(module: string): string;
  /** Whether a tensor of a checkpoint may be skipped because the family has no use for it (mask buffers, other heads). */
  ignores(name: string): boolean;
  /** Name of the token embeddings [vocabularySize, hiddenSize]; undefined for images. */
  readonly wordEmbeddings?: string;
  /** What the model multiplies token embeddings by (Gemma, BART's scale_embedding). Default 1. */
  readonly embeddingScale?: number | undefined;
  /** A language model's last projection where its weight is a table of embeddings. Default it has a weight of its own, or there is none. */
  readonly tiedOutput?: TiedOutput | undefined;
  /**
   * Key-value heads of a layer, where keys and values may come before those of a text, as transformers' class of the family takes
   * them (prefix tuning). Default none may.
   */
  readonly prefixHeads?: number;
  /** Attention heads and neurons of a layer, which can be pruned. */
  structures(layer: number): readonly Structure[];
  /**
   * Values of the inputs that only traces of this family have, by name, for tokens at these positions in batches of this shape.
   * @param seeds seeds of dropout masks, two words each, where every row has so many parts with masks of their own. Default zeros.
   */
  constants?(
    positions: Int32Array,
    shape: BatchSize,
    seeds?: (parts: number) => Uint32Array,
  ): Readonly<Record<string, Float32Array | Int32Array | Uint32Array>>;
  /** Tokens of a batch's longest row above which `constants` are others, so that no text may grow past it. Default none. */
  readonly constantsChangeAbove?: number | undefined;
  /** Records the embeddings, from token ids or patches: the hidden states [size, length, hiddenSize] that enter layer 0. */
  embed(forward: Forward): Value;
  /** Records a layer: hidden states to hidden states, both [size, length, hiddenSize], or [size, targetLength, hiddenSize]. */
  layer(forward: Forward, index: number, x: Value): Value;
  /** A layer in two parts, each with its residual and its norms; undefined where a layer is not one after the other. */
  readonly parts?: LayerParts;
  /**
   * Records the head: hidden states to logits [size, classes], or [size, tokens, classes] for tasks on tokens, of which a masked
   * language model's are those that are predicted.
   */
  head(forward: Forward, x: Value): Value;
  /** Input [size, tokens, hiddenSize], weight [vocabularySize, hiddenSize] and bias of a language model's last projection. */
  readonly output?: ((forward: Forward, x: Value) => LanguageModelOutput) | undefined;
}

/** A projection to the vocabulary without a weight of its own. */
export interface TiedOutput {
  /** Name of its module, such as lm_head. */
  readonly module: string;
  /** Name of the table that is its weight [vocabularySize, hiddenSize]. */
  readonly table: string;
}

/** What a language model's logits are made of: x w^T + bias, or c tanh((x w^T + bias) / c) with a soft cap c. */
export type LanguageModelOutput = {
  readonly x: Value;
  readonly w: Value;
  readonly bias: Value | undefined;
  readonly cap?: number | undefined;
};

/**
 * Makes a family's model of a configuration.
 * @param stored the checkpoint whose weights it will have, where there is one.
 * @throws ConfigError for a value that the family does not support.
 */
export type Family = (config: Readonly<Record<string, unknown>>, stored?: StoredNames) => Model;

/** Whether a module or a tensor, by its name, belongs to the task's head. */
export const isInHead = ({ heads }: Pick<Model, "heads">, name: string): boolean =>
  heads.some((head) => `${name}.`.startsWith(`${head}.`));

/** A family's `layer` and `parts`, where a layer is attention, then the feed-forward. */
export const layersOf = (parts: LayerParts): Required<Pick<Model, "layer" | "parts">> => ({
  layer: (forward, index, x) => parts.feedForward(forward, index, parts.attention(forward, index, x)),
  parts,
});

/** Weight, in the projection's layout, and bias [out] of a projection. */
export function projectionParameters(projection: Projection): ParameterSpec[] {
  const { name, layout, bias, layer } = projection;
  const shape = layout === "out_in" ? [projection.out, projection.in] : [projection.in, projection.out];
  const weight = { name: `${name}.weight`, shape, layer };
  return bias ? [weight, { name: `${name}.bias`, shape: [projection.out], layer }] : [weight];
}

/** Whether a tensor is the weight of a norm. No other weight has one axis. */
export const isNormWeight = ({ name, shape }: Pick<ParameterSpec, "name" | "shape">): boolean =>
  shape.length === 1 && name.endsWith(".weight");

/** Weights and biases of a model's norms. @param layers those of these layers alone. Default all. */
export function normTensors({ parameters }: Model, layers?: readonly number[]): ParameterSpec[] {
  const partOf = (name: string): string => name.replace(/\.(?:weight|bias)$/, "");
  const norms = new Set(parameters.filter(isNormWeight).map(({ name }) => partOf(name)));
  const isChosen = ({ layer }: ParameterSpec): boolean =>
    layers === undefined || (typeof layer === "number" && layers.includes(layer));
  return parameters.filter((parameter) => norms.has(partOf(parameter.name)) && isChosen(parameter));
}

/** Weight [size] and bias [size] of a layer norm. */
export function normParameters(name: string, size: number, layer: TensorPlace): ParameterSpec[] {
  return [
    { name: `${name}.weight`, shape: [size], layer },
    { name: `${name}.bias`, shape: [size], layer },
  ];
}
