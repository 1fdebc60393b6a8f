import * as v from "valibot";
import { noBytes, sumBytes } from "../../gpu/ledger";
import type { Bytes, Ledger } from "../../gpu/ledger";
import type { FreezeEvent, SkippedStep, StepReport, TrainResult } from "./reports";

const COUNT = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const NUMBER = v.number();
const BYTES = v.strictObject({ weight: NUMBER, state: NUMBER, saved: NUMBER, scratch: NUMBER });
/** A freeze as it was told; what more there is to tell of it stays as it is. */
export const SAVED_FREEZE = v.looseObject({
  step: COUNT,
  tensors: v.array(v.string()),
  layers: v.array(COUNT),
  returnedBytes: v.number(),
  bytes: BYTES,
});

const SAVED_SKIP = v.strictObject({ step: COUNT, what: v.string(), value: v.string() });

/** What a checkpoint holds of the past, beside the losses; plain JSON. */
export const SAVED_HISTORY = v.strictObject({
  freezes: v.array(SAVED_FREEZE),
  skipped: v.array(SAVED_SKIP),
  flops: NUMBER,
  seconds: NUMBER,
  peak: BYTES,
  savedBytesFirst: NUMBER,
  savedBytesLast: NUMBER,
});
export type SavedHistory = v.InferOutput<typeof SAVED_HISTORY>;

type Told = Omit<SavedHistory, "freezes"> & { readonly freezes: readonly FreezeEvent[] };

/** What a run's result tells of its steps, those before a resumption included. */
export class RunHistory {
  readonly losses: number[];
  #told: Told;

  constructor(losses: Iterable<number> = [], told?: Told) {
    this.losses = [...losses];
    this.#told = told ?? {
      freezes: [],
      skipped: [],
      flops: 0,
      seconds: 0,
      peak: noBytes(),
      savedBytesFirst: 0,
      savedBytesLast: 0,
    };
  }

  get freezes(): readonly FreezeEvent[] {
    return this.#told.freezes;
  }

  get told(): Told {
    return this.#told;
  }

  /** Steps that were passed over. */
  get skipped(): readonly SkippedStep[] {
    return this.#told.skipped;
  }

  add({ loss, flops, seconds, bytes, freezes, skipped }: StepReport): void {
    const { savedBytesFirst } = this.#told;
    this.#told = {
      freezes: [...this.#told.freezes, ...freezes],
      skipped: [...this.#told.skipped, ...skipped],
      flops: this.#told.flops + flops,
      seconds: this.#told.seconds + seconds,
      peak: this.#told.peak,
      savedBytesFirst: this.losses.length === 0 ? bytes.saved : savedBytesFirst,
      savedBytesLast: bytes.saved,
    };
    this.losses.push(loss);
  }

  save(ledger: Ledger): Told {
    return { ...this.#told, peak: { ...this.peak(ledger) } };
  }

  /** Most bytes that were live at once, by lifetime at that moment. */
  peak(ledger: Ledger): Bytes {
    return sumBytes(this.#told.peak) > ledger.peakBytes ? this.#told.peak : ledger.peak;
  }

  /** Sums the run up. */
  result(
    { ledger, kernels }: Pick<TrainResult, "kernels"> & { readonly ledger: Ledger },
    policy: Readonly<Record<string, unknown>>,
  ): TrainResult {
    const { losses } = this;
    const { flops, seconds, freezes, skipped, savedBytesFirst, savedBytesLast } = this.#told;
    const peak = this.peak(ledger);
    return {
      steps: losses.length,
      seconds,
      losses: [...losses],
      flops,
      freezes,
      skipped,
      kernels,
      policy,
      lossFirst: losses[0] ?? NaN,
      lossLast: losses.at(-1) ?? NaN,
      peak,
      peakBytes: sumBytes(peak),
      savedBytesFirst,
      savedBytesLast,
    };
  }
}
