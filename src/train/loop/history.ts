import * as v from "valibot";
import { noBytes, sumBytes } from "../../gpu/ledger";
import type { Bytes, Ledger } from "../../gpu/ledger";
import type { FreezeEvent, SkippedStep, StepReport, TrainResult } from "./reports";

const COUNT = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const NUMBER = v.number();
const BYTES = v.strictObject({ weight: NUMBER, state: NUMBER, saved: NUMBER, scratch: NUMBER });
/** A freeze in a checkpoint. Further members are kept as they are. */
export const SAVED_FREEZE = v.looseObject({
  step: COUNT,
  tensors: v.array(v.string()),
  layers: v.array(COUNT),
  returnedBytes: v.number(),
  bytes: BYTES,
});

const SAVED_SKIPPED_STEP = v.strictObject({ step: COUNT, what: v.string(), value: v.string() });

/** The past of a run in a checkpoint, apart from the losses. Plain JSON. */
export const SAVED_HISTORY = v.strictObject({
  freezes: v.array(SAVED_FREEZE),
  skipped: v.array(SAVED_SKIPPED_STEP),
  notes: v.optional(v.array(v.string()), []),
  flops: NUMBER,
  seconds: NUMBER,
  peak: BYTES,
  savedBytesFirst: NUMBER,
  savedBytesLast: NUMBER,
});

/** Sums over the steps of a run. */
export type HistoryTotals = Omit<v.InferOutput<typeof SAVED_HISTORY>, "freezes"> & {
  readonly freezes: readonly FreezeEvent[];
};

const NO_TOTALS: HistoryTotals = {
  freezes: [],
  skipped: [],
  notes: [],
  flops: 0,
  seconds: 0,
  peak: noBytes(),
  savedBytesFirst: 0,
  savedBytesLast: 0,
};

/** What a run has done so far, including the steps before a resumption. */
export class RunHistory {
  readonly losses: number[];
  #totals: HistoryTotals;

  /** @internal */
  constructor(losses: Iterable<number> = [], totals = NO_TOTALS) {
    this.losses = [...losses];
    this.#totals = totals;
  }

  /** @internal */
  copy(): RunHistory {
    return new RunHistory(this.losses, this.#totals);
  }

  get freezes(): readonly FreezeEvent[] {
    return this.#totals.freezes;
  }

  get skipped(): readonly SkippedStep[] {
    return this.#totals.skipped;
  }

  /** What the policy left to be said about the run, each once. */
  get notes(): readonly string[] {
    return this.#totals.notes;
  }

  /**
   * Adds a note. @returns whether it is new.
   * @internal
   */
  note(note: string): boolean {
    if (this.notes.includes(note)) return false;
    this.#totals = { ...this.#totals, notes: [...this.notes, note] };
    return true;
  }

  /** @internal */
  add({ loss, flops, seconds, bytes, freezes, skipped }: StepReport): void {
    const totals = this.#totals;
    this.#totals = {
      freezes: [...totals.freezes, ...freezes],
      skipped: [...totals.skipped, ...skipped],
      notes: totals.notes,
      flops: totals.flops + flops,
      seconds: totals.seconds + seconds,
      peak: totals.peak,
      savedBytesFirst: this.losses.length === 0 ? bytes.saved : totals.savedBytesFirst,
      savedBytesLast: bytes.saved,
    };
    this.losses.push(loss);
  }

  /**
   * Totals for a checkpoint.
   * @internal
   */
  save(ledger: Ledger): HistoryTotals {
    return { ...this.#totals, peak: { ...this.peak(ledger) } };
  }

  /** Most bytes that were live at the same time, by lifetime at that moment. */
  peak(ledger: Ledger): Bytes {
    const { peak } = this.#totals;
    return sumBytes(peak) > ledger.peakBytes ? peak : ledger.peak;
  }

  result(
    { ledger, kernels }: Pick<TrainResult, "kernels"> & { readonly ledger: Ledger },
    policy: Readonly<Record<string, unknown>>,
  ): TrainResult {
    const { losses } = this;
    const { flops, seconds, freezes, skipped, savedBytesFirst, savedBytesLast } = this.#totals;
    const peak = this.peak(ledger);
    return {
      steps: losses.length,
      seconds,
      lossFirst: losses[0] ?? NaN,
      lossLast: losses.at(-1) ?? NaN,
      losses: [...losses],
      flops,
      peak,
      peakBytes: sumBytes(peak),
      savedBytesFirst,
      savedBytesLast,
      freezes,
      skipped,
      kernels,
      policy,
    };
  }
}
