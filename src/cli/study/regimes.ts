import * as v from "valibot";
import { ConfigError, DataError } from "../../base/errors";
import { stratifiedSample } from "../../data/stratified";
import type { ChooseExamples } from "../tasks/task-data";

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

/** How a dev set is divided, the same for all methods and seeds. */
export const SPLIT = v.strictObject({
  /** Seed of the samples of all parts. */
  seed: v.optional(v.pipe(v.number(), v.safeInteger(), v.minValue(0)), 0),
  /** Most examples to decide by: when to stop, and which learning rate is best. At most half of the dev set. */
  validation: v.optional(COUNT, 2500),
  /** Most examples to score: those of the dev set that are not in the validation set. */
  test: v.optional(COUNT, 2500),
});

export type Split = v.InferOutput<typeof SPLIT>;

/** Examples of each part of a task's data. */
export type SplitCounts = Partial<Record<"train" | "validation" | "test", number>>;

/**
 * Chooses the examples of a split: stratified samples where the examples have classes.
 * @param part what takes the place of the dev set.
 * @param counts receives the size of each part.
 * @throws DataError for a regime that is larger than the training set, and for a dev set that is too small to divide.
 */
export function splitChooser(
  task: string,
  { regime, split }: { readonly regime: Regime | undefined; readonly split: Split },
  part: "validation" | "test",
  counts: SplitCounts,
): ChooseExamples {
  return (of, examples, labelOf = () => undefined) => {
    const labels = examples.map(labelOf);
    const pick = (indices: readonly number[]) => indices.map((index) => examples[index]!);
    if (of === "train") {
      const size = regime?.examples ?? examples.length;
      if (size > examples.length) {
        throw new DataError(
          `${task} takes ${size} training examples, and the data have ${examples.length}`,
          "name a smaller regime, or give sizes of your own: { name, examples, epochs }",
        );
      }
      counts.train = size;
      return pick(stratifiedSample(labels, size, split.seed));
    }
    if (examples.length === 0) return [];
    const validation = stratifiedSample(
      labels,
      Math.min(split.validation, Math.floor(examples.length / 2)),
      split.seed,
    );
    const taken = new Set(validation);
    const rest = examples.map((_, index) => index).filter((index) => !taken.has(index));
    const restLabels = rest.map((index) => labels[index]);
    const test = stratifiedSample(restLabels, Math.min(split.test, rest.length), split.seed).map((i) => rest[i]!);
    if (validation.length === 0) {
      throw new DataError(`the dev set of ${task} has one example`, "a split needs two at least");
    }
    counts.validation = validation.length;
    counts.test = test.length;
    return pick(part === "validation" ? validation : test);
  };
}

/** @throws ConfigError for a task whose reader does not choose its examples. */
export function checkWasSplit(task: string, { train }: SplitCounts): void {
  if (train !== undefined) return;
  throw new ConfigError(
    `The data of ${task} cannot be split.`,
    "Leave regimes and split out of a study with this task.",
  );
}
