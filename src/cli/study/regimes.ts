import * as v from "valibot";
import { DataError } from "../../base/errors";
import { stratifiedSample } from "../../data/stratified";
import { DATA_SEED, drawExamples } from "../tasks/draw-examples";
import type { ChooseExamples, EvaluationPart } from "../tasks/task-data";

const COUNT = v.pipe(v.number(), v.safeInteger(), v.minValue(1));

/** An amount of training data with the epochs that go with it. */
export interface Regime {
  readonly name: string;
  /** Training examples: a stratified sample of the training set. */
  readonly examples: number;
  readonly epochs: number;
}

/** The regimes of the empirical study of PEFT: at most so many examples. */
export const REGIMES = {
  low: { examples: 100, epochs: 10 },
  medium: { examples: 1000, epochs: 5 },
  high: { examples: 10_000, epochs: 1 },
} as const;

const NAMES = ["low", "medium", "high"] as const;

/** A regime of the paper, or sizes of one's own. */
export const REGIME = v.union(
  [
    v.picklist(NAMES),
    v.strictObject({
      name: v.pipe(v.string(), v.regex(/^[^/\\]+$/)),
      examples: COUNT,
      epochs: v.pipe(v.number(), v.finite(), v.gtValue(0)),
    }),
  ],
  "low, medium, high, or { name, examples, epochs }",
);

export const regimeOf = (choice: v.InferOutput<typeof REGIME>): Regime =>
  typeof choice === "string" ? { name: choice, ...REGIMES[choice] } : choice;

/** How the data are divided, the same for all methods and seeds. */
export const SPLIT = v.strictObject({
  /** Seed of the samples of all parts. */
  seed: v.optional(v.pipe(v.number(), v.safeInteger(), v.minValue(0)), DATA_SEED),
  /** Most examples to decide by: when to stop, and which learning rate is best. Without a test file, at most half of the dev set. */
  validation: v.optional(COUNT, 2500),
  /** Most examples to score: of the test file, or those of the dev set that are not in the validation set. */
  test: v.optional(COUNT, 2500),
});

export type Split = v.InferOutput<typeof SPLIT>;

/** Examples of each part of a task's data. */
export type SplitCounts = Partial<Record<"train" | "validation" | "test", number>>;

/** What of a task says which examples it takes. */
interface Amount {
  readonly name: string;
  /** Training examples. Undefined for all. */
  readonly examples?: number | undefined;
}

/**
 * Chooses the examples of a study's task: stratified samples where the examples have classes. Data with a test file of their own
 * keep it for tests; a dev set alone is divided into two parts that have no example in common.
 * @param split undefined to evaluate on complete files, both times on the dev set where there is no test file.
 * @param scored what takes the place of the dev set.
 * @param counts receives the size of each part.
 * @throws DataError for a task that takes more than the training set has, and for a dev set that is too small to divide.
 */
export function exampleChooser(
  { name, examples: count }: Amount,
  split: Split | undefined,
  scored: "validation" | "test",
  counts: SplitCounts,
): ChooseExamples {
  const { seed = DATA_SEED } = split ?? {};
  return (part, examples, labelOf = () => undefined) => {
    const labels = examples.map(labelOf);
    if (part === "train") {
      const remedy = "Name a smaller regime, or give sizes of your own: { name, examples, epochs }.";
      const drawn = count === undefined ? examples : drawExamples(name, { examples, labels }, { count, seed, remedy });
      counts.train = drawn.length;
      return drawn;
    }
    const chosen = split ? evaluatedExamples(name, { part, labels }, split, scored) : [...examples.keys()];
    counts[scored] = chosen.length;
    return chosen.map((index) => examples[index]!);
  };
}

/** Indices of the examples of a file to evaluate on. */
function evaluatedExamples(
  task: string,
  { part, labels }: { readonly part: EvaluationPart; readonly labels: readonly unknown[] },
  split: Split,
  scored: "validation" | "test",
): number[] {
  const sample = (indices: readonly number[], most: number): number[] => {
    const labelsOfThem = indices.map((index) => labels[index]);
    return stratifiedSample(labelsOfThem, Math.min(most, indices.length), split.seed).map((i) => indices[i]!);
  };
  const all = [...labels.keys()];
  if (part !== "dev") return sample(all, split[scored]);
  if (all.length === 1) throw new DataError(`the dev set of ${task} has one example`, "a split needs two at least");
  const validation = sample(all, Math.min(split.validation, Math.floor(all.length / 2)));
  if (scored === "validation") return validation;
  const taken = new Set(validation);
  return sample(
    all.filter((index) => !taken.has(index)),
    split.test,
  );
}
