import type { Command } from "cac";
import { parseBytes } from "../base/bytes";
import { ConfigError } from "../base/errors";

/** Wrong use of the command line: exit code 2. */
export class UsageError extends ConfigError {
  /** The key at fault within an option that has several, as those of a policy. */
  readonly key: string | undefined;

  constructor(
    fact: string,
    remedy: string,
    { key, ...options }: ErrorOptions & { readonly key?: string | undefined } = {},
  ) {
    super(fact, remedy, options);
    this.key = key;
  }
}

/**
 * Options as cac parses them: names in camel case, values as texts, numbers or booleans. Null is that of an option which the command line
 * takes back (`--no-NAME`), so that it has its default.
 */
export type RawOptions = Readonly<Record<string, unknown>>;

/** Prints a line on stdout. */
export type Print = (line: string) => void;

/** What a value may be, for files of options and for shells that complete it. Default: a text. */
export interface Takes {
  readonly kind?: "toggle" | "number";
  /** Words that it is one of, or may be in place of a path. */
  readonly words?: readonly string[];
  /** Whether it is the path of a file (or a directory that stands for files), or of a directory. */
  readonly path?: "file" | "directory";
  /** Whether the command makes what is there, rather than reading it. */
  readonly isWritten?: boolean;
  /** Whether a text is a path, of options that may be something else. Default: every one but `words`. */
  readonly isPath?: (text: string) => boolean;
  /** Several values: with commas between them, or the option once more for each. */
  readonly several?: "commas" | "repeated";
  /** Whether it may also be JSON, which files of options write as a mapping. */
  readonly json?: boolean;
}

/** Reads the value of an option. @throws UsageError if the value is not allowed. */
export interface Reader<T> {
  (value: unknown, flag: string): T;
  readonly takes?: Takes;
}

/** A reader that says what it takes. */
export const taking = <T>(takes: Takes, read: (value: unknown, flag: string) => T): Reader<T> =>
  Object.assign((value: unknown, flag: string) => read(value, flag), { takes });

/** An option of a command. */
export interface Option<T> {
  /** The flag with its placeholder, as the help shows it: `--batch <n>`. */
  readonly usage: string;
  readonly help: string;
  /** Default value, which the help shows. */
  readonly fallback: string | number | undefined;
  readonly takes: Takes;
  readonly read: (value: unknown, flag: string) => T;
}

/** Options by name: the flag in camel case. */
export type OptionSet = Readonly<Record<string, Option<unknown>>>;

/** The values of a set of options, by name. */
export type Values<S extends OptionSet> = { readonly [Name in keyof S]: S[Name] extends Option<infer T> ? T : never };

/** The flag of an option, with its dashes. */
export const flagOf = ({ usage }: Pick<Option<unknown>, "usage">): string => usage.split(" ", 1)[0]!;

/** The flag that takes an option's value back: `--no-rank` for `--rank`. */
export const negated = (flag: string): string => flag.replace(/^--/, "--no-");

/** The value of an option that is needed. @throws UsageError if it was not given. */
export function needed<T>(value: T | undefined, flag: string): T {
  if (value !== undefined) return value;
  throw new UsageError(`${flag} is missing.`, `Give it a value: ${flag} VALUE.`);
}

/** An option that must be given. */
export function required<T>(usage: string, help: string, read: Reader<T>): Option<T> {
  return {
    usage,
    help,
    fallback: undefined,
    takes: takenBy(read),
    read: (value, flag) => read(needed(value, flag), flag),
  };
}

/** An option that may be left out. */
export function optional<T>(usage: string, help: string, read: Reader<T>): Option<T | undefined> {
  return {
    usage,
    help,
    fallback: undefined,
    takes: takenBy(read),
    read: (value, flag) => (value === undefined ? undefined : read(value, flag)),
  };
}

/** An option with a default value. */
export function withDefault<T>(usage: string, help: string, read: Reader<T>, fallback: string | number): Option<T> {
  return { usage, help, fallback, takes: takenBy(read), read: (value, flag) => read(value ?? fallback, flag) };
}

/** An option without a value. */
export function toggle(usage: string, help: string): Option<boolean> {
  return {
    usage,
    help,
    fallback: undefined,
    takes: { kind: "toggle" },
    read(value = false, flag) {
      if (typeof value === "boolean") return value;
      throw new UsageError(`${flag} is ${JSON.stringify(value)}.`, "It may be true or false.");
    },
  };
}

const takenBy = ({ takes = {} }: Reader<unknown>): Takes => takes;

/** Adds options to a command of cac, which passes on only what the command line gives: files of options go before default values. */
export function addOptions(command: Command, options: OptionSet): Command {
  for (const { usage, help, fallback } of Object.values(options)) {
    command.option(usage, fallback === undefined ? help : `${help} (default: ${fallback})`);
  }
  return command;
}

/**
 * Arguments with negative numbers joined to the options before them, as `--lr=-1`: what follows an option would otherwise be
 * another option where it begins with a dash.
 * @param options names of the options that take a value, with their dashes.
 */
export function withNegativeValues(args: readonly string[], options: ReadonlySet<string>): string[] {
  const joined: string[] = [];
  const end = args.indexOf("--");
  for (const [i, arg] of args.entries()) {
    const before = joined.at(-1);
    const isValue = /^-(?:\.?\d|Infinity$)/.test(arg) && (end < 0 || i < end);
    if (isValue && before !== undefined && options.has(before)) joined[joined.length - 1] = `${before}=${arg}`;
    else joined.push(arg);
  }
  return joined;
}

/**
 * Arguments without those that take an option's value back, as `--no-rank`, and the flags of these options. A toggle's `--no-quiet` stays:
 * it is a value.
 * @param options as of `withNegativeValues`.
 */
export function withoutTakenBack(
  args: readonly string[],
  options: ReadonlySet<string>,
): { readonly args: string[]; readonly flags: readonly string[] } {
  const end = args.indexOf("--");
  const flagIn = (arg: string, i: number): string | undefined => {
    const flag = arg.startsWith("--no-") && (end < 0 || i < end) ? `--${arg.slice("--no-".length)}` : "";
    return options.has(flag) ? flag : undefined;
  };
  return {
    args: args.filter((arg, i) => flagIn(arg, i) === undefined),
    flags: args.flatMap((arg, i) => flagIn(arg, i) ?? []),
  };
}

/** Options with the default values of those that are not given, or taken back. */
export function withFallbacks(options: OptionSet, raw: RawOptions): RawOptions {
  const fallbacks = Object.entries(options).map(([name, { fallback }]) => [name, fallback] as const);
  return Object.fromEntries([
    ...fallbacks.filter(([, fallback]) => fallback !== undefined),
    ...Object.entries(raw).filter(([, value]) => value !== null),
  ]);
}

/** A raw value whose paths are changed. */
export function withPaths(
  value: unknown,
  { path, words, several, isPath }: Takes,
  change: (path: string) => string,
): unknown {
  if (path === undefined) return value;
  const changed = (text: unknown): unknown =>
    typeof text !== "string" || words?.includes(text) || isPath?.(text) === false ? text : change(text);
  if (Array.isArray(value)) return value.map(changed);
  if (several !== "commas" || typeof value !== "string" || isPath?.(value) === false) return changed(value);
  const parts = value.split(",").map((part) => changed(part.trim()));
  return parts.join(",");
}

/** Reads a command's options. @throws UsageError for one that is missing or has a value that is not allowed. */
export function readOptions<S extends OptionSet>(options: S, raw: RawOptions): Values<S> {
  const values = Object.entries(options).map(([name, option]) => [name, option.read(raw[name], flagOf(option))]);
  // Object.fromEntries forgets which name has which type.
  return Object.fromEntries(values) as Values<S>;
}

export const text: Reader<string> = (value, flag) => {
  if (typeof value === "string" || typeof value === "number") return String(value);
  throw new UsageError(`${flag} is ${JSON.stringify(value)}.`, "Give it one value.");
};

/** The path of a file, or of a directory that stands for the files in it. */
export const file = taking({ path: "file" }, text);

/** The path of a directory. */
export const directory = taking({ path: "directory" }, text);

/** The path of a file, or of a directory, that the command writes. */
export const newFile = taking({ path: "file", isWritten: true }, text);
export const newDirectory = taking({ path: "directory", isWritten: true }, text);

/** Texts, of an option that may be repeated. */
export const texts = taking({ several: "repeated" }, (value, flag) => [value].flat().map((each) => text(each, flag)));

/** Texts with commas between them, and spaces around them, which do not count. */
export const list = taking({ several: "commas" }, (value, flag) => {
  const parts = text(value, flag).split(",");
  const names = parts.map((part) => part.trim()).filter((part) => part !== "");
  if (names.length > 0) return names;
  throw new UsageError(`${flag} is ${JSON.stringify(value)}.`, "Give it names with commas: NAME,NAME.");
});

/** Numbers from `least` to `most`. */
export const numbers = (least = 0, most = Infinity): Reader<number> =>
  taking({ kind: "number" }, (value, flag) => {
    // Number() takes true for 1, and an empty text or list for 0.
    const number =
      typeof value === "number" || (typeof value === "string" && value.trim() !== "") ? Number(value) : NaN;
    if (Number.isFinite(number) && number >= least && number <= most) return number;
    const range = `${Number.isFinite(least) ? ` from ${least}` : ""}${Number.isFinite(most) ? ` to ${most}` : ""}`;
    const allowed = `a number${range}`;
    throw new UsageError(`${flag} is ${JSON.stringify(value)}.`, `Give ${allowed}.`);
  });

/** Whole numbers from `least`. */
export const counts = (least = 1): Reader<number> =>
  taking({ kind: "number" }, (value, flag) => {
    const number = numbers(least)(value, flag);
    if (Number.isInteger(number)) return number;
    throw new UsageError(`${flag} is ${number}.`, `Give a whole number from ${least}.`);
  });

/** One of several words. */
export const oneOf = <const T extends string>(choices: readonly T[]): Reader<T> =>
  taking({ words: choices }, (value, flag) => {
    const word = text(value, flag);
    const choice = choices.find((candidate) => candidate === word);
    if (choice !== undefined) return choice;
    throw new UsageError(`${flag} is ${word}.`, `It may be ${choices.join(", ")}.`);
  });

/** Bytes: `8589934592`, `8GB` (1e9) or `8GiB` (2^30). */
export const bytes: Reader<number> = (value, flag) => {
  try {
    return parseBytes(text(value, flag), flag);
  } catch (error) {
    throw error instanceof ConfigError ? new UsageError(error.fact, error.remedy) : error;
  }
};
