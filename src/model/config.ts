import * as v from "valibot";
import { ConfigError } from "../base/errors";
import { keyFault, valueFault } from "../base/schema";

/**
 * Checks the keys of config.json that a family reads.
 * @param inside name of the object of config.json that has them, where it is not the whole.
 * @throws ConfigError naming the key, and what it should be or that it is missing.
 */
export function parseConfig<const S extends v.GenericSchema>(
  schema: S,
  config: unknown,
  inside?: string,
): v.InferOutput<S> {
  const result = v.safeParse(schema, config);
  if (result.success) return result.output;
  const issue = result.issues[0];
  const path = v.getDotPath(issue) ?? "the file";
  const key = inside === undefined ? path : `${inside}.${path}`;
  if (keyFault(issue) === "missing") {
    throw new ConfigError(
      `config.json has no ${key}, which this family needs.`,
      "Add it with the model's own value, or take the config.json that was saved with the weights.",
    );
  }
  throw new ConfigError(
    `config.json: ${key} ${valueFault(issue)}.`,
    "Correct config.json, or load a model of a supported family.",
  );
}

/** Which tensors a checkpoint has: where files of one configuration differ, they decide. */
export interface StoredNames {
  has(name: string): boolean;
}

/** A positive integer that 32 bits hold. */
export const count = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(2 ** 31 - 1));
/** A number of layers. It is limited, since names and shapes are made for every layer before any tensor is read. */
export const layerCount = v.pipe(count, v.maxValue(1024));
/** A key that changes the result, and of which only this value is supported. */
export const only = <const T extends string | number | boolean>(value: T) => v.nullish(v.literal(value), value);
/** A dropout probability. */
export const probability = v.pipe(v.number(), v.minValue(0), v.maxValue(0.999));

/**
 * A configuration under the family's own names of keys: transformers reads these under the names that most families have, too.
 * @param names own names by the common ones.
 * @throws ConfigError where a file has both, and they differ.
 */
export function withOwnNames(
  config: Readonly<Record<string, unknown>>,
  names: Readonly<Record<string, string>>,
): Readonly<Record<string, unknown>> {
  const given = Object.entries(names).filter(([common]) => (config[common] ?? undefined) !== undefined);
  for (const [common, own] of given) {
    if ((config[own] ?? config[common]) === config[common]) continue;
    throw new ConfigError(
      `config.json: ${common} is ${JSON.stringify(config[common])}, but ${own} is ${JSON.stringify(config[own])}.`,
      "They are two names of one key: correct or remove one of them.",
    );
  }
  return { ...config, ...Object.fromEntries(given.map(([common, own]) => [own, config[common]])) };
}

/**
 * Number of labels: `num_labels`, else the size of `id2label`, else 2 as in Hugging Face.
 * @throws ConfigError where they differ, or it is no number of outputs.
 */
export function labelCount(config: Readonly<Record<string, unknown>>): number {
  const { num_labels, id2label } = config;
  const named = id2label && typeof id2label === "object" ? Object.keys(id2label).length : undefined;
  const labels = v.safeParse(count, num_labels ?? named ?? 2);
  if (!labels.success) {
    throw new ConfigError(
      `config.json: ${named === 0 ? "id2label has 0 names" : `num_labels is ${JSON.stringify(num_labels)}`}; expected a whole number from 1.`,
      "Correct it: there is one output for each label.",
    );
  }
  if (named === undefined || named === labels.output) return labels.output;
  throw new ConfigError(
    `config.json: num_labels is ${labels.output}, but id2label has ${named} names.`,
    "Correct one of them: there is one output for each label.",
  );
}

/** A label's name: a text, or a number as Trainer leaves the classes of numeric data. */
const LABEL_NAME = v.union([v.string(), v.pipe(v.union([v.number(), v.boolean()]), v.transform(String))]);

/**
 * Names of the labels, by label: `id2label`; undefined without it, where a label has no name, and where it only has Hugging Face's
 * LABEL_0 and so on.
 */
export function labelNamesOf({ id2label }: Readonly<Record<string, unknown>>): readonly string[] | undefined {
  const names = v.safeParse(v.record(v.string(), LABEL_NAME), id2label);
  if (!names.success) return undefined;
  const list = Object.keys(names.output).map((_, label) => names.output[label]);
  const named = list.filter((name) => name !== undefined);
  if (named.length < list.length || named.every((name) => /^LABEL_\d+$/.test(name))) return undefined;
  return named;
}

/** How GELU is computed under each of its names in config.json: exactly, or by tanh. */
export const GELU_ACTIVATIONS = {
  gelu: "none",
  gelu_new: "tanh",
  gelu_fast: "tanh",
  gelu_pytorch_tanh: "tanh",
} as const;

/** The entry of an activation in a family's table. @throws ConfigError if the table does not have it. */
export function activationOf<T>(activation: string, supported: Readonly<Record<string, T>>): T {
  const entry = Object.hasOwn(supported, activation) ? supported[activation] : undefined;
  if (entry !== undefined) return entry;
  throw new ConfigError(
    `config.json: the activation ${activation} is not supported.`,
    `Supported activations: ${Object.keys(supported).join(", ")}.`,
  );
}
