import type { Bytes, Ledger } from "../gpu/ledger";
import type { KernelChoice } from "../gpu/tuning/tuner";

/** A freeze as it happened. */
export interface FreezeEvent {
  /** Optimizer steps done when it happened. */
  readonly step: number;
  readonly tensors: readonly string[];
  /** Transformer layers whose adapter is wholly frozen by it. */
  readonly layers: readonly number[];
  /** Bytes that went back to the driver. */
  readonly returnedBytes: number;
  /** Live bytes by lifetime after it. */
  readonly bytes: Bytes;
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
  /** What was frozen right after this step. */
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
  /** How products and attention ran, where an engine tunes its kernels. */
  readonly kernels: readonly KernelChoice[];
  /** Options and findings of the policy, as the record of the run keeps them. */
  readonly policy: Readonly<Record<string, unknown>>;
}

/** Sums a run up. */
export function resultOf(
  reports: readonly StepReport[],
  seconds: number,
  { ledger, kernels }: { readonly ledger: Ledger; readonly kernels: readonly KernelChoice[] },
  policy: Readonly<Record<string, unknown>>,
): TrainResult {
  const losses = reports.map(({ loss }) => loss);
  return {
    ...{ steps: reports.length, seconds, losses, lossFirst: losses[0] ?? NaN, lossLast: losses.at(-1) ?? NaN },
    flops: reports.reduce((sum, { flops }) => sum + flops, 0),
    ...{ peak: ledger.peak, peakBytes: ledger.peakBytes },
    savedBytesFirst: reports[0]?.bytes.saved ?? 0,
    savedBytesLast: reports.at(-1)?.bytes.saved ?? 0,
    freezes: reports.flatMap((report) => report.freezes),
    ...{ kernels, policy },
  };
}
