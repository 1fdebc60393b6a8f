import { full } from "../adapter/full";
import { lora } from "../adapter/lora";
import type { Adapter } from "../adapter/adapter";
import { ConfigError } from "../base/errors";

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
  const [, digits, unit = ""] = /^(\d+(?:\.\d+)?)\s*([kMGT]i?B|B|)$/.exec(text) ?? [];
  if (digits === undefined) {
    throw new UsageError(`${flag} is ${text}.`, "Give bytes, or a number with kB, MB, GB, MiB or GiB.");
  }
  const base = unit.includes("i") ? 1024 : 1000;
  return Math.floor(Number(digits) * base ** Math.max(0, "BkMGT".indexOf(unit.charAt(0) || "B")));
}

/** The adapter that `--adapter` and its options ask for. */
export function adapterOption(given: Given): Adapter {
  if (choiceOption(given, "adapter", "--adapter", ["lora", "full"], "lora") === "full") return full();
  const targets = given["targets"];
  const rank = countOption(given, "rank", "--rank", 8);
  return lora({
    rank,
    alpha: numberOption(given, "alpha", "--alpha", rank),
    dropout: numberOption(given, "dropout", "--dropout", 0),
    ...(typeof targets === "string" ? { targets: targets.split(",") } : {}),
  });
}
