import type { WeightFormat } from "../base/packed";
import type { Shape } from "../base/shape";
import type { Forward } from "./forward";
import type { Structure } from "./structure";
import type { Value } from "../tape/tape";

/** A tensor of a checkpoint, by its Hugging Face name. */
export interface ParameterSpec {
  readonly name: string;
  readonly shape: Shape;
  /** Transformer layer, from 0; undefined outside the layers (embeddings, a head). */
  readonly layer: number | undefined;
  /** How it is stored; default f32. */
  readonly dtype?: WeightFormat;
}

/** A linear projection, the place where an adapter may act. */
export interface Projection {
  readonly name: string;
  readonly in: number;
  readonly out: number;
  /** `out_in` as torch.nn.Linear stores a weight, `in_out` as GPT-2's Conv1D does. */
  readonly layout: "out_in" | "in_out";
  readonly bias: boolean;
  /** Transformer layer, from 0; undefined outside the layers (a pooler, a head). */
  readonly layer: number | undefined;
}

/** Shape of a batch. */
export interface BatchSize {
  readonly size: number;
  readonly length: number;
}

/** What a model is asked to predict. */
export type Task =
  "sequence_classification" | "regression" | "question_answering" | "causal_lm" | "image_classification";

/** An image model's input: square images, cut into square patches. Sizes in pixels. */
export interface ImageSpec {
  readonly size: number;
  readonly patch: number;
  readonly channels: number;
}

/**
 * A model family at one configuration: names, shapes and how it is traced. No weights and no memory, so a plan needs
 * nothing else. Layers are traced one by one, so that scores can look at (and compare) what each of them gives.
 */
export interface Model {
  /** `model_type` of the configuration. */
  readonly family: string;
  readonly task: Task;
  readonly config: Readonly<Record<string, unknown>>;
  /** Every tensor of the checkpoint, in order. */
  readonly parameters: readonly ParameterSpec[];
  readonly projections: readonly Projection[];
  readonly layers: number;
  readonly hiddenSize: number;
  readonly vocabularySize: number;
  /** Longest text, in tokens; an image model's only length. */
  readonly maxLength: number;
  /** What an image model sees; undefined for text. */
  readonly image?: ImageSpec;
  /** Number of classes; 1 for regression, the vocabulary for a language model, 2 (start, end) for answers. */
  readonly classes: number;
  /** Id that fills short rows. */
  readonly padId: number;
  /** Modules that belong to the task, trained beside an adapter (PEFT's `modules_to_save`). */
  readonly heads: readonly string[];
  /** PEFT's `target_modules` where the caller names none. */
  readonly defaultTargets: readonly string[];
  /** Names under which published checkpoints store a parameter, the canonical one first. */
  aliases(name: string): readonly string[];
  /** A module's name in memory since transformers 5, where it differs: PEFT writes that into adapters. */
  renamed?(module: string): string;
  /** Checkpoint tensors that the family does not use and that may be passed over (mask buffers, other heads). */
  ignores(name: string): boolean;
  /** The table of token embeddings [vocabularySize, hiddenSize]; undefined for images. */
  readonly wordEmbeddings?: string;
  /** What can be left out of a layer, group by group. */
  structures(layer: number): readonly Structure[];
  /** Host data of inputs that only this family's traces ask for, of tokens at these positions. */
  constants?(positions: Int32Array): Readonly<Record<string, Float32Array>>;
  /** Input ids (or patches) to the hidden states that enter layer 0: [size, length, hiddenSize]. */
  embed(forward: Forward): Value;
  layer(forward: Forward, index: number, x: Value): Value;
  /** Hidden states to logits: [size, classes], or [size, length, classes] for language models and answers. */
  head(forward: Forward, x: Value): Value;
  /** A language model's last projection: what it reads of hidden states, and its weight [vocabularySize, hiddenSize]. */
  readonly output?: ((forward: Forward, x: Value) => { readonly x: Value; readonly w: Value }) | undefined;
}

/** Weight, in the projection's layout, and bias [out] of a projection. */
export function projectionParameters(projection: Projection): ParameterSpec[] {
  const { name, layout, bias, layer } = projection;
  const shape = layout === "out_in" ? [projection.out, projection.in] : [projection.in, projection.out];
  const weight = { name: `${name}.weight`, shape, layer };
  return bias ? [weight, { name: `${name}.bias`, shape: [projection.out], layer }] : [weight];
}

/** Weight [size] and bias [size] of a layer norm. */
export function normParameters(name: string, size: number, layer: number | undefined): ParameterSpec[] {
  return [
    { name: `${name}.weight`, shape: [size], layer },
    { name: `${name}.bias`, shape: [size], layer },
  ];
}
