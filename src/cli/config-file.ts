import { basename, dirname, extname, isAbsolute, join, relative, resolve } from "node:path";
import { isMap, isScalar, isSeq, stringify } from "yaml";
import type { Node, Pair, YAMLMap } from "yaml";
import { SafetapeError } from "../base/errors";
import { oneLine } from "../io/json";
import { openDirectory } from "../node/directory";
import { COMMON } from "./flags";
import { nearestOptions } from "./nearest-options";
import { flagOf, texts, UsageError, withPaths } from "./options";
import { checkPath } from "./paths";
import { parseYaml } from "./yaml-file";
import type { Option, OptionSet, RawOptions, Takes } from "./options";

/** Options that a file gives. */
export interface ConfigFile {
  /** As the command line would give them, with paths relative to the current directory. */
  readonly options: RawOptions;
  /**
   * Reads every value, as the command will. Plugins may add names of values, and are to be loaded before.
   * @throws UsageError with file and line for a value that is not allowed.
   */
  readonly check: () => void;
  /** An error about options, with file and line where it names one that the file gives, which it then names as the file does. */
  readonly located: (error: unknown) => unknown;
  /** The path of the file, if it gives an option of this name that the command line does not. */
  readonly fileOf: (name: string) => string | undefined;
}

/** The name of an option in a file: its flag without dashes. */
const keyOf = (option: Pick<Option<unknown>, "usage">): string => flagOf(option).slice(2);

/** `max-length`, `max_length` and `maxLength` are one. */
const folded = (key: string): string => key.replace(/[-_]/g, "").toLowerCase();

/** The options of a command, and its name for errors. */
interface ConfiguredCommand {
  readonly name: string;
  readonly options: OptionSet;
}

/**
 * The options on the command line, above those of the file that `--config` names. A command whose own `--config` is the config.json of
 * a model takes either of them, and both.
 * @throws as `readConfigFile` does; UsageError for two files.
 */
export async function withConfigFile(given: RawOptions, { name, options }: ConfiguredCommand): Promise<ConfigFile> {
  const { config, ...line } = given;
  const { config: option, printConfig: _printConfig, ...rest } = options;
  const isModels = option !== COMMON.config;
  const files: string[] = [];
  for (const path of texts(config, "--config")) {
    if (!isModels || (await isOptionsFile(path))) files.push(path);
    else Object.assign(line, { config: path });
  }
  const [path, second] = files;
  if (path === undefined) {
    return { options: line, check: () => undefined, located: (error) => error, fileOf: () => undefined };
  }
  if (second !== undefined) throw new UsageError(`--config is ${path} and ${second}.`, "Give one file of options.");
  const file = await readConfigFile(path, {
    name,
    options: { ...rest, ...(isModels && option && { config: option }) },
  });
  return {
    ...file,
    options: { ...file.options, ...line },
    located: (error) => file.located(error, Object.keys(line)),
    fileOf: (name) => (name in line ? undefined : file.fileOf(name)),
  };
}

/** A file alone. */
interface LocatingFile extends ConfigFile {
  /** @param overridden names of options that the command line gives. */
  readonly located: (error: unknown, overridden?: readonly string[]) => unknown;
}

/**
 * Reads a file of options in YAML, or in JSON, which is YAML too. Its paths are relative to its own folder.
 * @throws UsageError for a file that is not there, and with file and line for one that is not a mapping in YAML, and for a key that is
 * no option of the command.
 */
export async function readConfigFile(path: string, command: ConfiguredCommand): Promise<LocatingFile> {
  await checkPath("--config", path, { kind: "file" });
  return configOf(await bytesOf(path), path, command);
}

/** The options in the bytes of a file. @throws as `readConfigFile` does. */
export function configOf(bytes: Uint8Array, path: string, { name: command, options }: ConfiguredCommand): LocatingFile {
  const { entries, lineOf } = parseFile(bytes, path);
  const names = new Map(Object.entries(options).map(([name, option]) => [folded(keyOf(option)), name]));
  const given = new Map<string, GivenOption>();
  for (const { key, value } of entries) {
    const where = `${path}:${lineOf(key)}`;
    const word = isScalar(key) ? String(key.value) : "";
    const name = names.get(folded(word));
    if (name === undefined) {
      const nearest = nearestOptions(word, Object.values(options).map(keyOf));
      throw new UsageError(
        `${where}: ${command} has no option ${JSON.stringify(oneLine(word))}.`,
        `The nearest are ${nearest.join(", ")}; safetape ${command} --help lists all.`,
      );
    }
    const option = options[name]!;
    if (given.has(name)) {
      throw new UsageError(`${where}: ${keyOf(option)} is there twice.`, "Remove one of the lines.");
    }
    const raw = rawValue(value, option.takes, `${where}: ${word}`);
    const lines = new Map(
      isMap<Node>(value) ? value.items.map((pair) => [String(pair.key), `${path}:${lineOf(pair.key)}`]) : [],
    );
    const changed = withPaths(raw, option.takes, (text) => placed(text, dirname(path)));
    given.set(name, { value: changed, word, placeOf: (key) => lines.get(key ?? "") ?? where });
  }
  return {
    options: Object.fromEntries([...given].map(([name, { value }]) => [name, value])),
    check: () => {
      for (const [name, { value, word, placeOf }] of given) {
        try {
          options[name]!.read(value, word);
        } catch (error) {
          if (!(error instanceof SafetapeError)) throw error;
          const key = error instanceof UsageError ? error.key : undefined;
          throw new UsageError(`${placeOf(key)}: ${oneLine(error.fact)}`, error.remedy);
        }
      }
    },
    fileOf: (name) => (given.has(name) ? path : undefined),
    located(error, overridden = []) {
      if (!(error instanceof UsageError)) return error;
      const ofFile = [...given].filter(([name]) => !overridden.includes(name));
      const flags = new Map(ofFile.map(([name, option]) => [flagOf(options[name]!), option]));
      const named = (text: string): string => text.replace(FLAG, (flag) => flags.get(flag)?.word ?? flag);
      const first = error.fact.match(FLAG)?.find((flag) => flags.has(flag));
      if (first === undefined) return error;
      const place = flags.get(first)!.placeOf(error.key);
      return new UsageError(`${place}: ${named(error.fact)}`, named(error.remedy), { cause: error });
    },
  };
}

/** An option of a file. */
interface GivenOption {
  readonly value: unknown;
  /** Its name as the file writes it. */
  readonly word: string;
  /** File and line of the option, or of a key of its mapping. */
  readonly placeOf: (key?: string) => string;
}

const FLAG = /--[a-z][\w-]*/g;

/** Whether a file has a key at its top: false for one that cannot be read, too. */
async function hasKey(path: string, key: string): Promise<boolean> {
  try {
    return parseFile(await bytesOf(path), path).entries.some((entry) => isScalar(entry.key) && entry.key.value === key);
  } catch {
    return false;
  }
}

interface ParsedFile {
  readonly entries: readonly Pair<Node, Node | null>[];
  /** Line of a node, from 1. */
  readonly lineOf: (node: Node) => number;
}

const bytesOf = async (path: string): Promise<Uint8Array> => (await openDirectory(dirname(path))).read(basename(path));

const KIND = {
  noun: "a file of options",
  syntax: 'Write one "option: value" a line, in YAML, or an object in JSON.',
};

function parseFile(bytes: Uint8Array, path: string): ParsedFile {
  const { contents, lineOf } = parseYaml(bytes, path, KIND);
  if (contents === null) return { entries: [], lineOf };
  if (!isMap(contents)) {
    throw new UsageError(
      `${path}:${lineOf(contents)}: the file is no mapping of options.`,
      'Write one "option: value" a line, such as batch: 8.',
    );
  }
  // Parsed documents consist of nodes; only those that programs make may have other values.
  return { entries: (contents as YAMLMap<Node, Node | null>).items, lineOf };
}

/** A value as the command line gives it. */
function rawValue(node: Node | null, takes: Takes, what: string): unknown {
  if (isSeq(node)) {
    if (takes.several === undefined) throw new UsageError(`${what} is a list.`, "Give it one value.");
    const values = node.items.map((item) => plainValue(item, takes, what));
    return takes.several === "commas" ? values.join(",") : values;
  }
  if (isMap(node) && takes.json) return JSON.stringify(node.toJSON());
  return plainValue(node, takes, what);
}

/** A text, a number or a boolean. */
function plainValue(node: unknown, takes: Takes, what: string): unknown {
  if (!isScalar(node))
    throw new UsageError(`${what} has a list or a mapping where a value should be.`, "Give a value.");
  const { value, source = "" } = node;
  if (value === null) throw new UsageError(`${what} has no value.`, "Give it one, or remove the line.");
  // What looks like a number, and is the name of something, stays as it is written: 0012, or 12e5 of a commit.
  const isName = typeof value === "number" && takes.kind !== "number" && String(value) !== source;
  return isName ? source : value;
}

/** A path of the file, relative to the current directory. */
const placed = (path: string, folder: string): string =>
  isAbsolute(path) || /^[a-z]+:\/\//i.test(path) ? path : join(folder, path);

/** Options that a file of a run does not repeat: those of a recipe are there themselves. */
const LEFT_OUT = ["recipe", "resume", "overwrite"];

/**
 * A file of options in YAML, each with its help as a comment.
 * @param raw as the command line gives them. @param folder where the file will be: its paths are relative to it. Default: the current
 * directory.
 */
export function configText(options: OptionSet, raw: RawOptions, folder = "."): string {
  return Object.entries(options)
    .filter(([name]) => raw[name] !== undefined && !LEFT_OUT.includes(name))
    .map(([name, option]) => `# ${option.help}\n${entryText(option, raw[name], folder)}`)
    .join("");
}

/** An option in a file. @param raw and @param folder as of `configText`. */
export function entryText(option: Option<unknown>, raw: unknown, folder = "."): string {
  const near = (path: string): string => {
    const way = isAbsolute(path) && folder === "." ? path : relative(folder, resolve(path));
    return way === "" ? "." : way;
  };
  const value = withPaths(raw, option.takes, near);
  const isJson = option.takes.json && typeof value === "string" && value.startsWith("{");
  const written: unknown = isJson ? JSON.parse(value) : value;
  return stringify({ [keyOf(option)]: written }, { lineWidth: 0 });
}

/** Whether a file is one of options, where it may also be the config.json of a model. */
const isOptionsFile = async (path: string): Promise<boolean> =>
  [".yaml", ".yml"].includes(extname(path)) || hasKey(path, "config");
