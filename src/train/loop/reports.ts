import { LIFETIMES, sumBytes } from "../../gpu/ledger";
import type { Bytes } from "../../gpu/ledger";
import type { KernelChoice } from "../../gpu/tuning/tuner";
import type { Progress } from "../../freeze/policy";
import type { Plan } from "../../tape/plan";
import type { PolicyScores } from "../freezing/context";
import type { Batch } from "../../data/batch";
import type { WireReport } from "../world";
import type { PrefixReport, StepPrefix } from "../step/prefix/step-prefix";
import type { StepResult } from "../step/step-runner";
import { parametersOutsideHead } from "../tensors/specs";
import type { RunResources } from "./resources";

/** A freeze that has happened. */
export interface FreezeEvent {
  /** Optimizer steps done when it happened. */
  readonly step: number;
  /** Names of the frozen tensors. */
  readonly tensors: readonly string[];
  /** Transformer layers that had a live adapter before and have none now. */
  readonly layers: readonly number[];
  /** Bytes that went back to the driver. */
  readonly returnedBytes: number;
  /** Bytes that went back to the driver, by lifetime. */
  readonly returned: Bytes;
  /** FLOPs of an optimizer step with the largest batch, before and after. */
  readonly flops: { readonly before: number; readonly after: number };
  /** Live bytes by lifetime afterwards. */
  readonly bytes: Bytes;
}

/** Heads and neurons that were cut out of the tensors. */
export interface CompactionEvent extends Pick<FreezeEvent, "returnedBytes" | "returned" | "flops" | "bytes"> {
  /** Optimizer steps done when it happened. */
  readonly step: number;
  /** Groups of attention heads that the tensors lack from now on, over all layers. */
  readonly heads: number;
  /** The same for neurons. */
  readonly neurons: number;
  /** Bytes of host memory in which the original weights wait for the end of the run. */
  readonly hostBytes: number;
}

/** A step that was not applied, because its loss or gradients were not finite. */
export interface SkippedStep {
  /** Optimizer steps done before it. */
  readonly step: number;
  /** "loss" or "gradient norm". */
  readonly what: string;
  /** Its value: "NaN", "Infinity" or "-Infinity". */
  readonly value: string;
}

/** One optimizer step. */
export interface StepReport {
  /** Number of the step, from 1. */
  readonly step: number;
  readonly totalSteps: number;
  /** Epochs done, with a fraction. */
  readonly epoch: number;
  readonly loss: number;
  readonly learningRate: number;
  /** Global norm of all gradients, before clipping. */
  readonly gradientNorm: number;
  readonly seconds: number;
  readonly examplesPerSecond: number;
  /** Live GPU bytes by lifetime after the step. */
  readonly bytes: Bytes;
  /** The bytes that the plan predicts. Equal to `bytes`. */
  readonly planned: Bytes;
  /** Floating-point operations of the step. */
  readonly flops: number;
  /** Lowest layer through which the backward pass runs: below it nothing is kept. Undefined where it ends in the head. */
  readonly horizon: number | undefined;
  readonly frozenTensors: number;
  /** Parameters outside the task's head that still learn; left out in the checkpoints of earlier versions. */
  readonly liveParameters?: number | undefined;
  /** Rows of a batch that run at the same time from now on. */
  readonly rowsAtOnce: number;
  /** Number of sections of the model that are recomputed instead of kept. */
  readonly recomputed: number;
  /** Undefined without a `prefixCache`. */
  readonly prefix: PrefixReport | undefined;
  /** Payload bytes that this device sent to others and received, since the last report; left out where it trains alone. */
  readonly wire?: WireReport | undefined;
  /** Steps skipped right before this one, with `onNotFinite: "skip"`. */
  readonly skipped: readonly SkippedStep[];
  /** Scores that the policy requested after the step. */
  readonly scores: PolicyScores | undefined;
  /** Freezes since the previous step's report: those right after this step, and those that `freeze` made before it. */
  readonly freezes: readonly FreezeEvent[];
  /** The compaction after this step; undefined where there was none. */
  readonly compaction: CompactionEvent | undefined;
}

/** A complete run. */
export interface TrainResult {
  readonly steps: number;
  readonly seconds: number;
  readonly lossFirst: number;
  readonly lossLast: number;
  readonly losses: readonly number[];
  readonly flops: number;
  /** Most GPU bytes that were live at the same time, by lifetime at that moment. */
  readonly peak: Bytes;
  /** The sum of `peak`. */
  readonly peakBytes: number;
  /** Bytes kept for the backward pass after the first step and after the last one. */
  readonly savedBytesFirst: number;
  readonly savedBytesLast: number;
  readonly freezes: readonly FreezeEvent[];
  readonly skipped: readonly SkippedStep[];
  /** Kernels that ran for products and attention, where the engine tunes its kernels. */
  readonly kernels: readonly KernelChoice[];
  /** Options and findings of the policy, as the run's record keeps them. */
  readonly policy: Readonly<Record<string, unknown>>;
}

interface Cost {
  readonly bytes: Bytes;
  readonly flops: number;
}

/** A freeze, from the cost of the run before and after it. */
export function freezeEvent(
  freeze: Pick<FreezeEvent, "step" | "tensors" | "layers">,
  before: Cost,
  after: Cost,
): FreezeEvent {
  return { ...freeze, ...difference(before, after) };
}

/** A compaction, from the cost of the run before and after it. */
export function compactionEvent(
  compaction: Pick<CompactionEvent, "step" | "heads" | "neurons" | "hostBytes">,
  before: Cost,
  after: Cost,
): CompactionEvent {
  return { ...compaction, ...difference(before, after) };
}

function difference(before: Cost, after: Cost): Pick<FreezeEvent, "returnedBytes" | "returned" | "flops" | "bytes"> {
  const returned = { ...after.bytes };
  for (const lifetime of LIFETIMES) returned[lifetime] = before.bytes[lifetime] - after.bytes[lifetime];
  const flops = { before: before.flops, after: after.flops };
  return { returnedBytes: sumBytes(returned), returned, flops, bytes: after.bytes };
}

/** One launch of a kernel in a step. */
export interface LaunchRecord {
  readonly phase: "forward" | "recompute" | "backward" | "update";
  /** Name of the op, for example `lora_linear`. */
  readonly op: string;
  /** The module or tensor that it computes, for example `bert.encoder.layer.0.attention.self.query`. */
  readonly label: string;
  /** File of the kernel in `kernels/`, without its extension. */
  readonly kernel: string;
  readonly entry: string;
  readonly workgroups: number;
}

/** The launches of a step with the largest batch, in order. */
export function launchRecords({ book, updates, state }: RunResources): LaunchRecord[] {
  const record = ({ launches }: Plan, phase?: LaunchRecord["phase"]): LaunchRecord[] =>
    launches.map(({ launch, node, ...planned }) => ({
      phase: phase ?? planned.phase,
      op: node.op.name,
      label: node.label,
      kernel: launch.kernel.name,
      entry: launch.entry,
      workgroups: launch.workgroups,
    }));
  return [...record(book.planWith(new Set(state.live.keys()))), ...record(updates.planOf([]), "update")];
}

/** An optimizer step that was applied and not yet reported. */
export interface AppliedStep extends StepResult {
  /** `performance.now()` when it began. */
  readonly startTime: number;
  readonly learningRate: number;
  readonly batches: readonly Batch[];
  readonly prefix: StepPrefix;
}

/** The report of an applied step, with the state of the run after it. */
export function stepReport(
  { book, state, options, world }: RunResources,
  { startTime, batches, prefix, loss, gradientNorm, learningRate, flops }: AppliedStep,
  { step, totalSteps, stepsPerEpoch }: Progress,
  after: Pick<StepReport, "planned" | "skipped" | "scores" | "freezes" | "compaction">,
): StepReport {
  const seconds = (performance.now() - startTime) / 1000;
  // A pair of answers is one example.
  const examples = batches.reduce((sum, { rows, reference }) => sum + rows / (reference ? 2 : 1), 0);
  return {
    step,
    totalSteps,
    epoch: step / stepsPerEpoch,
    loss,
    learningRate,
    gradientNorm,
    seconds,
    examplesPerSecond: examples / seconds,
    bytes: options.model.engine.ledger.live,
    flops,
    horizon: book.horizon,
    frozenTensors: state.frozen.length,
    liveParameters: parametersOutsideHead(options.model.model, state.live),
    rowsAtOnce: book.choice.rows,
    recomputed: book.choice.sections.size,
    prefix: prefix.report,
    ...(world && { wire: world.takeBytes() }),
    ...after,
  };
}
