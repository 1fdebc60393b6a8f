import { LIFETIMES, sumBytes } from "../../gpu/ledger";
import type { Bytes } from "../../gpu/ledger";
import type { KernelChoice } from "../../gpu/tuning/tuner";

/** A freeze as it happened. */
export interface FreezeEvent {
  /** Optimizer steps done when it happened. */
  readonly step: number;
  readonly tensors: readonly string[];
  /** Transformer layers whose adapter is wholly frozen by it. */
  readonly layers: readonly number[];
  /** Bytes that went back to the driver, and their lifetimes. */
  readonly returnedBytes: number;
  readonly returned: Bytes;
  /** FLOPs of an optimizer step with the largest batch, before and after. */
  readonly flops: { readonly before: number; readonly after: number };
  /** Live bytes by lifetime after it. */
  readonly bytes: Bytes;
}

/** A step whose loss or gradients were not finite, and that was passed over. */
export interface SkippedStep {
  /** Optimizer steps done before it. */
  readonly step: number;
  /** "loss" or "gradient norm", and what it was. */
  readonly what: string;
  readonly value: string;
}

/** What a run's prefix cache did in a step. */
export interface PrefixReport {
  /** The layer that the step began with; 0 while the lowest one still changes. */
  readonly layer: number;
  /** Parts of its batches that were read rather than computed below that layer, and all. */
  readonly hits: number;
  readonly parts: number;
  /** Bytes that the cache holds after it. */
  readonly bytes: number;
}

/** What a policy looked at when it was asked. */
export interface PolicyScores {
  /** Importance of each layer (1 - CKA), or sensitivity of each tensor. */
  readonly kind: "importance" | "sensitivity";
  /** By layer or by tensor. */
  readonly values: Readonly<Record<string, number>>;
}

/** One optimizer step. */
export interface StepReport {
  /** From 1. */
  readonly step: number;
  readonly totalSteps: number;
  /** Epochs done, with fraction. */
  readonly epoch: number;
  readonly loss: number;
  readonly learningRate: number;
  /** Global norm of all gradients, before clipping. */
  readonly gradientNorm: number;
  readonly seconds: number;
  readonly examplesPerSecond: number;
  /** Live GPU bytes by lifetime after the step. */
  readonly bytes: Bytes;
  /** What the plan says that they are. */
  readonly planned: Bytes;
  /** Floating-point operations of the step. */
  readonly flops: number;
  /** Lowest transformer layer with a live adapter: below it nothing is kept; undefined when all are frozen. */
  readonly horizon: number | undefined;
  readonly frozenTensors: number;
  /** Rows of a batch that run at once from now on, and parts of the model that are run again rather than kept. */
  readonly rowsAtOnce: number;
  readonly recomputed: number;
  /** Undefined without a `prefixCache`. */
  readonly prefix: PrefixReport | undefined;
  /** What was passed over right before this step, with `onNotFinite: "skip"`. */
  readonly skipped: readonly SkippedStep[];
  /** Scores that the policy asked for after the step. */
  readonly scores: PolicyScores | undefined;
  /** What was frozen right after this step, or since the one before it (before the first: at step 0). */
  readonly freezes: readonly FreezeEvent[];
}

/** A whole run. */
export interface TrainResult {
  readonly steps: number;
  readonly seconds: number;
  readonly lossFirst: number;
  readonly lossLast: number;
  readonly losses: readonly number[];
  readonly flops: number;
  /** Most bytes that were live at once, by lifetime at that moment. */
  readonly peak: Bytes;
  readonly peakBytes: number;
  readonly savedBytesFirst: number;
  readonly savedBytesLast: number;
  readonly freezes: readonly FreezeEvent[];
  /** Steps that were passed over. */
  readonly skipped: readonly SkippedStep[];
  /** How products and attention ran, where an engine tunes its kernels. */
  readonly kernels: readonly KernelChoice[];
  /** Options and findings of the policy, as the record of the run keeps them. */
  readonly policy: Readonly<Record<string, unknown>>;
}

/** What a freeze changed. */
export function freezeEffect(
  before: { readonly bytes: Bytes; readonly flops: number },
  after: { readonly bytes: Bytes; readonly flops: number },
): Pick<FreezeEvent, "returnedBytes" | "returned" | "flops" | "bytes"> {
  const returned = { ...after.bytes };
  for (const lifetime of LIFETIMES) returned[lifetime] = before.bytes[lifetime] - after.bytes[lifetime];
  const flops = { before: before.flops, after: after.flops };
  return { returnedBytes: sumBytes(returned), returned, flops, bytes: after.bytes };
}
