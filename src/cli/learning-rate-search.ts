import { NotFiniteError } from "../base/errors";
import { valueOf } from "./evaluation";
import type { Metrics } from "./evaluation";

/** A learning rate that was tried, and the metrics of its short run; none where the run's loss was not finite. */
export interface TriedRate {
  readonly learningRate: number;
  readonly metrics: Metrics;
}

/**
 * Tries learning rates in short runs, as SAFE's appendix describes (at least five, for a tenth of the epochs). The best one has
 * the best first metric on the validation set; of several, the least loss.
 * @throws NotFiniteError where no rate gave a finite loss.
 */
export async function searchLearningRate(
  rates: readonly number[],
  shortRun: (learningRate: number) => Promise<Metrics>,
): Promise<{ readonly learningRate: number; readonly tried: TriedRate[] }> {
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
