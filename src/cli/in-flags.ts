import { ConfigError, LimitError, MemoryBudgetError, OutOfMemoryError, SafetapeError } from "../base/errors";
import { flagOf, UsageError } from "./options";
import type { OptionSet, RawOptions } from "./options";

/** Options of programs that the command line calls by other names. */
const OTHER_NAMES: Readonly<Record<string, string>> = {
  headLearningRate: "headLr",
  learningRate: "lr",
  noRepeatNgram: "uniqueNgram",
  targetFreezeFraction: "freezeShare",
  until: "freezeUntil",
};

/** `scores: "warmup"`, an option of policies that has no flag. */
const POLICY_OPTION = /\bscores: "(\w+)"/g;
/** `memory: { recompute: "layers", microBatch: 4 }` */
const GROUP = /\b(?:memory|optimizer): \{ ([^{}]*) \}/g;
/** `bias: "all"`, `bias: "lora_only" or "all"` and `addBiases: true` */
const ENTRY = /(?<![\w./"-])([a-z]\w*): (?:("[\w-]+"(?: or "[\w-]+")*)|(true|false|\d[\w.]*))/g;
/** `blockSize`, `memory.microBatch` and `` `every` `` */
const NAME = /(?<![\w./"`-])(?:(?:memory|optimizer|loss)\.)?([a-z]+[A-Z]\w*)(?![\w("/-])|`([a-z]\w*)`/g;

/** A text of the library, with options named as the command line has them: `--block-size` for `blockSize`. */
export function inFlags(text: string, options: OptionSet): string {
  const flag = (name: string): string | undefined => {
    const known = Object.hasOwn(OTHER_NAMES, name) ? OTHER_NAMES[name]! : name;
    return Object.hasOwn(options, known) ? flagOf(options[known]!) : undefined;
  };
  const entry = (written: string, name: string, words: string | undefined, value = words): string => {
    // Flags of toggles are those of what is not the default.
    if (name === "dropout" && value === "false") return flag("withoutDropout") ?? written;
    const known = flag(name);
    if (known === undefined || value === undefined || value === "false") return written;
    return value === "true" ? known : `${known} ${value.replaceAll('"', "")}`;
  };
  const policy = flag("freeze") ?? flag("policy");
  return text
    .replace(POLICY_OPTION, (written, value: string) =>
      policy === undefined ? written : `${policy} '{"policy": "safe", "scores": "${value}"}'`,
    )
    .replace(GROUP, (_, inner: string) => inner.replace(ENTRY, entry))
    .replace(ENTRY, entry)
    .replace(NAME, (written, name: string | undefined, quoted: string | undefined) => flag(name ?? quoted!) ?? written);
}

const REFUSALS = [ConfigError, LimitError, MemoryBudgetError, OutOfMemoryError];

/**
 * A refusal as the command line says it: with flags in place of the library's names of options. It is wrong use where it names an option
 * that is given.
 */
export function refusalInFlags(error: unknown, options: OptionSet, given: RawOptions): unknown {
  if (!(error instanceof SafetapeError) || !REFUSALS.some((kind) => error instanceof kind)) return error;
  // What the command line says itself has flags already, and keys within an option are the library's.
  if (error instanceof UsageError && (error.key !== undefined || !error.cause)) return error;
  const [fact, remedy] = [inFlags(error.fact, options), inFlags(error.remedy, options)];
  const isUse =
    error instanceof ConfigError &&
    Object.entries(options).some(
      ([name, option]) =>
        given[name] !== undefined && given[name] !== null && new RegExp(`${flagOf(option)}(?![\\w-])`).test(fact),
    );
  if (error instanceof UsageError || isUse) return new UsageError(fact, remedy, { cause: error });
  return new SafetapeError(fact, remedy, { cause: error });
}
