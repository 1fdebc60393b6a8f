import { stat } from "node:fs/promises";
import * as v from "valibot";
import { NotFiniteError } from "../base/errors";
import { jsonBytes, readJson } from "../io/json";
import { openDirectory } from "../node/directory";
import { runLength } from "../train/estimate/run-length";
import type { TrainerOptions } from "../train/options";
import { METRICS } from "./best-evaluation";
import { valueOf } from "./evaluation";
import type { Metrics } from "./evaluation";
import { UsageError } from "./options";

/** SAFE's appendix: at least so many rates, each in runs of this share of the epochs. */
export const LEAST_RATES = 5;
export const SEARCH_SHARE = 0.1;

/** A learning rate that was tried, and the metrics of its short run; none where the run's loss was not finite. */
export interface TriedRate {
  readonly learningRate: number;
  readonly metrics: Metrics;
}

/** The rates that were tried, and the best one. */
export interface RateSearch {
  readonly learningRate: number;
  readonly tried: readonly TriedRate[];
}

/**
 * Tries learning rates in short runs, as SAFE's appendix describes (at least five, for a tenth of the epochs). The best one has
 * the best first metric on the validation set; of several, the least loss.
 * @throws NotFiniteError where no rate gave a finite loss.
 */
export async function searchLearningRate(
  rates: readonly number[],
  shortRun: (learningRate: number) => Promise<Metrics>,
): Promise<RateSearch> {
  const tried: TriedRate[] = [];
  let failure: NotFiniteError | undefined;
  for (const learningRate of rates) {
    try {
      tried.push({ learningRate, metrics: await shortRun(learningRate) });
    } catch (error) {
      if (!(error instanceof NotFiniteError)) throw error;
      failure = error;
      tried.push({ learningRate, metrics: {} });
    }
  }
  const rank = ({ metrics }: TriedRate): [number, number] => [orWorst(valueOf(metrics)), orWorst(metrics["loss"])];
  const [best] = tried
    .filter(({ metrics }) => Number.isFinite(valueOf(metrics)))
    .sort((a, b) => rank(a)[0] - rank(b)[0] || rank(a)[1] - rank(b)[1]);
  if (best) return { learningRate: best.learningRate, tried };
  throw failure ?? new Error("A search needs learning rates.");
}

const orWorst = (value = NaN): number => (Number.isNaN(value) ? Infinity : value);

/** Options of a run of a share of the steps, with its complete schedule in them. */
export function shortened<
  Options extends Pick<TrainerOptions, "data" | "accumulate" | "epochs" | "steps" | "schedule">,
>(options: Options, share = SEARCH_SHARE): Options & { readonly steps: number } {
  const { schedule = {} } = options;
  const steps = Math.max(1, Math.round(share * runLength(options).totalSteps));
  // A function is told the number of steps.
  if (typeof schedule === "function" || schedule.warmupSteps === undefined) return { ...options, steps };
  return { ...options, steps, schedule: { ...schedule, warmupSteps: Math.round(share * schedule.warmupSteps) } };
}

/** Where a search keeps its rates, so that a resumed run does not try them again. */
export const SEARCH_FILE = "learning-rates.json";
const SEARCH = v.strictObject({
  learningRate: v.number(),
  tried: v.array(v.strictObject({ learningRate: v.number(), metrics: METRICS })),
});

/**
 * The search of a run whose results are saved at a path: a resumed run takes the rate that it began with.
 * @throws UsageError for a resumed run with other rates, NotFiniteError where no rate gave a finite loss.
 */
export async function searchOnce(
  rates: readonly number[],
  { path, resume }: { readonly path: string; readonly resume: boolean },
  shortRun: (learningRate: number) => Promise<Metrics>,
): Promise<RateSearch> {
  const out = (await stat(path).catch(() => undefined)) && (await openDirectory(path));
  if (!resume || !out || (await out.size(SEARCH_FILE)) === undefined) {
    const search = await searchLearningRate(rates, shortRun);
    await (out ?? (await openDirectory(path, { create: true }))).write(SEARCH_FILE, jsonBytes(search));
    return search;
  }
  const saved = await readJson(out, SEARCH_FILE, SEARCH);
  const tried = saved.tried.map(({ learningRate }) => learningRate).join();
  if (tried === rates.join()) return saved;
  throw new UsageError(
    `${SEARCH_FILE} in ${path} has the rates ${tried}.`,
    "Resume with these in --lr-search, or begin a run in another --out.",
  );
}
