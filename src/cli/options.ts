import type { Adapter } from "../adapter/adapter";
import { ADAPTER_KINDS, makeAdapter } from "../adapter/make";
import type { LayerChoice } from "../adapter/targets";
import { parseBytes } from "../base/bytes";
import { ConfigError } from "../base/errors";
import { WEIGHT_FORMATS } from "../base/packed";
import type { WeightFormat } from "../base/packed";
import { makePolicy } from "../freeze/make";
import type { PolicyChoice } from "../freeze/make";
import type { Policy } from "../freeze/policy";
import { ACTIVATION_FORMATS } from "../op/pack";
import type { ActivationFormat } from "../op/pack";
import type { Recompute } from "../train/options";

/** Wrong use of the command line: exit code 2. */
export class UsageError extends ConfigError {}

/** What cac hands over: option -> value as typed. */
export type Given = Readonly<Record<string, unknown>>;

/** A number option. @throws UsageError when it is no number, below `least`, or missing without a default. */
export function numberOption(given: Given, name: string, flag: string, fallback?: number, least = 0): number {
  const value = given[name] ?? fallback;
  if (value === undefined) throw new UsageError(`${flag} is missing.`, `Give it a number: ${flag} N.`);
  const number = Number(value);
  if (Number.isFinite(number) && number >= least) return number;
  throw new UsageError(`${flag} is ${JSON.stringify(value)}.`, `Give a number from ${least}.`);
}

/** The same for a whole number. */
export function countOption(given: Given, name: string, flag: string, fallback?: number, least = 1): number {
  const value = numberOption(given, name, flag, fallback, least);
  if (Number.isInteger(value)) return value;
  throw new UsageError(`${flag} is ${value}.`, `Give a whole number from ${least}.`);
}

/** A text option. @throws UsageError when it is missing without a default. */
export function textOption(given: Given, name: string, flag: string, fallback?: string): string {
  const value = given[name] ?? fallback;
  if (typeof value === "string" || typeof value === "number") return String(value);
  throw new UsageError(`${flag} is missing.`, `Give it a value: ${flag} VALUE.`);
}

/** One of several words. @throws UsageError naming them. */
export function choiceOption<T extends string>(
  given: Given,
  name: string,
  flag: string,
  choices: readonly T[],
  fallback?: T,
): T {
  const value = textOption(given, name, flag, fallback);
  const found = choices.find((choice) => choice === value);
  if (found !== undefined) return found;
  throw new UsageError(`${flag} is ${value}.`, `It may be ${choices.join(", ")}.`);
}

/** Bytes, as `8589934592`, `8GB` (1e9) or `8GiB` (2^30). */
export function bytesOption(given: Given, name: string, flag: string): number | undefined {
  if (given[name] === undefined) return undefined;
  const text = textOption(given, name, flag);
  try {
    return parseBytes(text, flag);
  } catch (error) {
    throw error instanceof ConfigError ? new UsageError(error.fact, error.remedy) : error;
  }
}

/** `none`, `mlp`, `layers`, or bytes that the run is to fit into. */
export function recomputeOption(given: Given): Recompute {
  const words = ["none", "mlp", "layers"] as const;
  const found = words.find((word) => word === (given["recompute"] ?? "none"));
  return found ?? bytesOption(given, "recompute", "--recompute")!;
}

/** How frozen weights are stored. */
export const weightsOption = (given: Given): WeightFormat =>
  choiceOption(given, "weights", "--weights", WEIGHT_FORMATS, "f32");

/** How kept activations are stored. */
export const activationsOption = (given: Given): ActivationFormat =>
  choiceOption(given, "activations", "--activations", ACTIVATION_FORMATS, "f32");

/** Options of an adapter -> its flag, and how the flag's text is read. */
const ADAPTER_FLAGS: Readonly<
  Record<string, readonly [string, (given: Given, name: string, flag: string) => unknown]>
> = {
  rank: ["--rank", (given, name, flag) => countOption(given, name, flag)],
  alpha: ["--alpha", (given, name, flag) => numberOption(given, name, flag)],
  dropout: ["--dropout", (given, name, flag) => numberOption(given, name, flag)],
  targets: ["--targets", targetsOption],
  layers: ["--layers", layersOption],
  tokens: ["--tokens", (given, name, flag) => countOption(given, name, flag)],
  size: ["--size", (given, name, flag) => countOption(given, name, flag)],
  initialRank: ["--initial-rank", (given, name, flag) => countOption(given, name, flag)],
  targetRank: ["--target-rank", (given, name, flag) => countOption(given, name, flag)],
};

/**
 * The adapter that `--adapter` and its options ask for. LoRA's alpha is the rank unless given.
 * @param promptIds tokens of `--prompt-text`.
 */
export function adapterOption(given: Given, promptIds?: readonly number[]): Adapter {
  const kind = choiceOption(given, "adapter", "--adapter", ADAPTER_KINDS, "lora");
  const options = Object.fromEntries(
    Object.entries(ADAPTER_FLAGS)
      .filter(([name]) => given[name] !== undefined)
      .map(([name, [flag, read]]) => [name, read(given, name, flag)]),
  );
  const alpha = kind === "lora" && options["rank"] !== undefined ? { alpha: options["rank"] } : {};
  const initial = promptIds ?? given["promptInit"];
  return makeAdapter({ kind, ...alpha, ...options, ...(initial === undefined ? {} : { initial }) });
}

/** `query,value`, `all-linear`, or `/a regular expression/`. */
function targetsOption(given: Given, name: string, flag: string): string | string[] {
  const text = textOption(given, name, flag);
  const [, pattern] = /^\/(.+)\/$/.exec(text) ?? [];
  if (pattern !== undefined) return pattern;
  return text === "all-linear" ? text : text.split(",");
}

/** `0,1,2`, `early`, `later`, or `random:SEED`. */
export function layersOption(given: Given, name: string, flag: string): LayerChoice {
  const text = textOption(given, name, flag);
  const [, seed] = /^random:(\d+)$/.exec(text) ?? [];
  if (seed !== undefined) return { randomHalf: Number(seed) };
  if (text === "early" || text === "later") return text;
  const layers = text.split(",").map(Number);
  if (layers.every((layer) => Number.isInteger(layer) && layer >= 0)) return layers;
  throw new UsageError(`${flag} is ${text}.`, "Give layers as 0,1,2, or early, later, random:SEED.");
}

/** The policy that `--freeze` asks for: a name, or JSON with its options. */
export function policyOption(given: Given): Policy {
  const text = textOption(given, "freeze", "--freeze", "never");
  const isSafe = text === "safe";
  const told = text.startsWith("{") ? parseChoice(text) : { policy: text };
  return makePolicy({
    ...(isSafe && given["tauT"] !== undefined ? { tauT: numberOption(given, "tauT", "--tau-t") } : {}),
    ...(isSafe && given["freezeShare"] !== undefined
      ? { targetFreezeFraction: numberOption(given, "freezeShare", "--freeze-share") }
      : {}),
    ...(given["every"] === undefined ? {} : { every: countOption(given, "every", "--every") }),
    ...told,
  });
}

function parseChoice(text: string): PolicyChoice {
  try {
    const value: unknown = JSON.parse(text);
    if (value && typeof value === "object" && "policy" in value && typeof value.policy === "string") {
      return value as PolicyChoice;
    }
  } catch {
    // Told below, with what is wanted instead.
  }
  throw new UsageError(`--freeze is ${text}.`, `Give a name, or JSON as {"policy": "upper_layers", "count": 6}.`);
}
