import { ConfigError } from "../base/errors";
import { occurs, patternText } from "../base/regexp";

/** Settings that some parameters have in place of the optimizer's. */
export interface ParameterGroup {
  /** A pattern that occurs in the names of these parameters, or "head" for those of a model's task head. */
  readonly match: RegExp | "head";
  /** Default: that of the next group that matches and gives one, or the optimizer's. */
  readonly learningRate?: number;
  /** As `learningRate`. */
  readonly weightDecay?: number;
}

/** Options that every optimizer has. */
export interface CommonOptions {
  /** Before the schedule. The default is the optimizer's own; a schedule of three rates may not contradict it. */
  readonly learningRate?: number;
  /** Default 0. */
  readonly weightDecay?: number;
  /** Parameters with settings of their own. For each setting, the first group counts that matches and gives it. */
  readonly groups?: readonly ParameterGroup[];
  /** Learning rate of the task's head: short for a last but one group `{ match: "head", learningRate }`. Default `learningRate`. */
  readonly headLearningRate?: number | undefined;
  /**
   * Tensors whose name matches get no weight decay: short for a last group `{ match, weightDecay: 0 }`. Default: all get it,
   * as in PyTorch. Hugging Face excludes biases and norms.
   */
  readonly noDecay?: RegExp;
  /** Gradients are scaled down when their global norm exceeds this; 0 turns clipping off. Default 0. */
  readonly maxGradNorm?: number;
}

/** Settings that every optimizer has, with their defaults. */
export type CommonSettings = Required<Omit<CommonOptions, "groups" | "headLearningRate" | "noDecay">> &
  Pick<CommonOptions, "groups" | "headLearningRate" | "noDecay">;

/** The settings of some options that every optimizer has. @throws ConfigError for one that it does not have. */
export function commonSettings(
  { learningRate, weightDecay = 0, maxGradNorm = 0, groups, headLearningRate, noDecay, ...others }: CommonOptions,
  defaultLearningRate: number,
): CommonSettings {
  const [unknown] = Object.keys(others);
  if (unknown !== undefined) {
    throw new ConfigError(
      `The optimizer has no option ${unknown}.`,
      "All have learningRate, weightDecay, maxGradNorm, groups, headLearningRate and noDecay, and some have their own.",
    );
  }
  return {
    learningRate: learningRate ?? defaultLearningRate,
    weightDecay,
    maxGradNorm,
    ...(groups && groups.length > 0 && { groups }),
    ...(headLearningRate !== undefined && { headLearningRate }),
    ...(noDecay && { noDecay }),
  };
}

type Numbers = Readonly<Record<string, number | readonly number[]>>;

const areFrom0 = (value: number | readonly number[]): boolean =>
  [value].flat().every((number) => Number.isFinite(number) && number >= 0);

/**
 * Checks an optimizer's settings.
 * @param own numbers that are its own, by name.
 * @param fractions those of them that must be below 1.
 * @throws ConfigError for numbers that are negative, not finite, or not below 1 where they must be.
 */
export function checkSettings(settings: CommonSettings, own: Numbers = {}, fractions: Numbers = {}): void {
  const { learningRate, headLearningRate = learningRate, weightDecay, maxGradNorm, groups = [] } = settings;
  const numbers = { learningRate, headLearningRate, ...fractions, ...own, weightDecay, maxGradNorm };
  const areFractions = Object.values(fractions).every((value) => [value].flat().every((number) => number < 1));
  if (!Object.values(numbers).every(areFrom0) || !areFractions) {
    const below = Object.keys(fractions);
    throw new ConfigError(
      `The optimizer has ${Object.entries(numbers)
        .map(([name, value]) => `${name} ${[value].flat().join(", ")}`)
        .join(", ")}.`,
      `Give numbers from 0${below.length > 0 ? `, and ${below.join(" and ")} below 1` : ""}.`,
    );
  }
  for (const group of groups) {
    const { match, ...rates }: { readonly match: unknown } = group;
    const given = Object.entries(rates).filter((entry): entry is [string, number] => entry[1] !== undefined);
    // A program without types may give a text in place of a pattern.
    if (match !== "head" && !(match instanceof RegExp)) {
      throw new ConfigError(
        `A group of the optimizer matches ${JSON.stringify(match)}.`,
        'Give a regular expression, or "head".',
      );
    }
    if (given.length > 0 && given.every(([name, value]) => name in SETTINGS_OF_GROUPS && areFrom0(value))) continue;
    throw new ConfigError(
      `The optimizer's group ${groupText(group)} has ${given.map(([name, value]) => `${name} ${value}`).join(", ") || "no settings"}.`,
      `Give ${Object.keys(SETTINGS_OF_GROUPS).join(" or ")}, from 0.`,
    );
  }
}

const SETTINGS_OF_GROUPS = { learningRate: true, weightDecay: true };

/** A group's pattern, for messages and records. */
export const groupText = ({ match }: Pick<ParameterGroup, "match">): string =>
  match === "head" ? match : patternText(match);

/** Whether a parameter belongs to a group. @param isHead whether it belongs to the task's head. */
export const belongsTo = ({ match }: Pick<ParameterGroup, "match">, name: string, isHead: boolean): boolean =>
  match === "head" ? isHead : occurs(match, name);

/** Settings of an update that some tensors have in common. */
export interface TensorGroup {
  /** Name of the update plan's input that holds the numbers of a step. */
  readonly input: string;
  /** Before the schedule. */
  readonly learningRate: number;
  readonly weightDecay: number;
}

/** A group and the name of the input for its learning rate. */
type NamedGroup = ParameterGroup & Partial<Pick<TensorGroup, "input">>;

const headGroup = (learningRate: number): NamedGroup => ({ match: "head", learningRate, input: "hyper of the head" });

/** The group of a tensor. @param isHead whether it belongs to the task's head. */
export function groupOf(
  { learningRate, weightDecay, groups = [], headLearningRate, noDecay }: CommonSettings,
  name: string,
  isHead = false,
): TensorGroup {
  const all: readonly NamedGroup[] = [
    ...groups.map((group, i) => ({ ...group, input: `hyper of group ${i}` })),
    ...(headLearningRate === undefined ? [] : [headGroup(headLearningRate)]),
    ...(noDecay ? [{ match: noDecay, weightDecay: 0 }] : []),
  ];
  const own = all.filter((group) => belongsTo(group, name, isHead));
  const rate = own.find((group) => group.learningRate !== undefined);
  const decay = own.find((group) => group.weightDecay !== undefined);
  return {
    input: rate?.input ?? "hyper",
    learningRate: rate?.learningRate ?? learningRate,
    weightDecay: decay?.weightDecay ?? weightDecay,
  };
}

/** An optimizer's name and settings as plain JSON, for records and checkpoints. */
export function optimizerRecord({
  name,
  settings,
}: {
  readonly name: string;
  readonly settings: CommonSettings;
}): Record<string, unknown> {
  const plain = (value: unknown): unknown => {
    if (value instanceof RegExp) return patternText(value);
    if (Array.isArray(value)) return value.map(plain);
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, plain(member)]));
  };
  return { name, ...Object.fromEntries(Object.entries(settings).map(([key, value]) => [key, plain(value)])) };
}
