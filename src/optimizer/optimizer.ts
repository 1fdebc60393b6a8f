import type { Shape } from "../base/shape";
import type { Recorder, Value } from "../tape/tape";
import type { CommonSettings } from "./settings";

/** The count and the rate of one update, for the tensors of a group. */
export interface UpdateMoment {
  /** The group's rate, times the factor of the schedule. */
  readonly learningRate: number;
  /** Number of this update, from 1. Each group counts its own, since frozen tensors have no updates. */
  readonly step: number;
}

/** The tensors of one update, on a tape. */
export interface UpdateTensors {
  /** The parameter, which the update changes in place. Of an elementwise optimizer, it may be several that lie side by side. */
  readonly p: Value;
  /** Its gradient, of its shape, not clipped yet. */
  readonly g: Value;
  /** The tensors of `Optimizer.state` by the same names, which the update changes in place. They are 0 before the first. */
  readonly state: Readonly<Record<string, Value>>;
  /** Sum of squares of all gradients [1]. */
  readonly total: Value;
  /** Loss of the step [1]. */
  readonly loss: Value;
  /** The numbers of `Optimizer.hyper` [hyperSize]. */
  readonly hyper: Value;
}

/** What an update is told of its parameter in addition to tensors. */
export interface UpdatedTensor {
  /** Name of the parameter, or of the first of those that lie side by side. */
  readonly name: string;
  readonly weightDecay: number;
}

/**
 * How parameters change with their gradients. An optimizer is configuration: it holds nothing of a run, so that several
 * runs may use one. `adamW()` is one; an object of this shape is another.
 */
export interface Optimizer {
  /** For records and checkpoints. A run is resumed only with an optimizer of this name and these settings. */
  readonly name: string;
  /** All settings with their defaults, as numbers, texts, patterns and lists of them. `commonSettings` gives those that every optimizer has. */
  readonly settings: CommonSettings;
  /** Whether elements are updated independently, so that tensors that lie side by side may be updated by one launch. */
  readonly isElementwise: boolean;
  /**
   * Shapes of the f32 tensors that a parameter has in addition to its gradient, by names such as "first moment", under
   * which checkpoints hold them. Of an elementwise optimizer, all have the parameter's shape.
   */
  state(shape: Shape, name: string): Readonly<Record<string, Shape>>;
  /** Count of the numbers that `hyper` returns. */
  readonly hyperSize: number;
  /** The numbers of an update that change from step to step. They are inputs, so that a schedule needs no other plan. */
  hyper(moment: UpdateMoment): Float32Array;
  /**
   * Records the update of a parameter. Where `total` or `loss` is not finite, the ops that it records must change nothing;
   * clipping to `settings.maxGradNorm` is theirs as well.
   */
  update(recorder: Recorder, tensors: UpdateTensors, tensor: UpdatedTensor): void;
}
