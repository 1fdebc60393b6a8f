import * as v from "valibot";
import { ConfigError } from "../base/errors";

/** Checks a family's part of config.json. @throws ConfigError naming the key, what it is and what it should be. */
export function parseConfig<const S extends v.GenericSchema>(schema: S, config: unknown): v.InferOutput<S> {
  const result = v.safeParse(schema, config);
  if (result.success) return result.output;
  const issue = result.issues[0];
  const key = v.getDotPath(issue) ?? "the file";
  throw new ConfigError(
    `config.json: ${key} is ${issue.received}; expected ${String(issue.expected)}.`,
    "Correct config.json, or load a model of a supported family.",
  );
}

/** A positive whole number that 32 bits hold. */
export const count = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(2 ** 31 - 1));
/** A number of layers: each has names and shapes of its own, so that a file must not ask for billions. */
export const layerCount = v.pipe(count, v.maxValue(1024));
/** A probability, as dropouts have. */
export const probability = v.pipe(v.number(), v.minValue(0), v.maxValue(0.999));

/** Number of labels: `num_labels`, else as many as `id2label` names, else 2 as Hugging Face has it. */
export function labelCount(config: Readonly<Record<string, unknown>>): number {
  const { num_labels: given, id2label } = config;
  if (typeof given === "number" && Number.isInteger(given) && given > 0 && given < 2 ** 31) return given;
  if (id2label && typeof id2label === "object") return Object.keys(id2label).length;
  return 2;
}

/** @throws ConfigError when an activation is not one of `known`. */
export function checkActivation(given: string, known: readonly string[]): void {
  if (known.includes(given)) return;
  throw new ConfigError(`config.json: the activation ${given} is unknown here.`, `Known ones: ${known.join(", ")}.`);
}
