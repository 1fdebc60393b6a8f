import { ConfigError, SafetapeError } from "../base/errors";
import { formatShape, sameShape } from "../base/shape";
import { ADDED_FAMILIES, MODEL_TYPES } from "./families";
import { projectionParameters } from "./model";
import type { Family, Model } from "./model";

/** What a family is called outside. */
export interface FamilyOptions {
  /** Beginning of the names of its architectures in config.json, such as "Bert" of BertForMaskedLM. Default the `model_type`. */
  readonly architecture?: string;
  /** Whether its models are encoder-decoders. Default false. */
  readonly isEncoderDecoder?: boolean;
}

/**
 * Makes a model family of a program's own known under a `model_type`: to `createModel`, and to whatever makes a model of a config.json,
 * such as `loadModel`, `plan` and `fitMemoryBudget`. What the family returns is checked.
 * @returns a function that forgets the family again.
 * @throws ConfigError for a `model_type` that is known already.
 */
export function registerFamily(
  type: string,
  family: Family,
  { architecture = type, isEncoderDecoder = false }: FamilyOptions = {},
): () => void {
  const checked: Family = (config, stored) =>
    checkModel(
      type,
      called(type, () => family(config, stored)),
    );
  return ADDED_FAMILIES.add(type, { family: checked, architecture, isEncoderDecoder }, MODEL_TYPES);
}

/** Calls a program's function. What it throws by mistake becomes an error that names the family. */
function called<T>(type: string, body: () => T): T {
  try {
    return body();
  } catch (cause) {
    if (cause instanceof SafetapeError) throw cause;
    const message = cause instanceof Error ? cause.message : String(cause);
    throw new ConfigError(
      `The model family ${type} fails with this configuration: ${message.split("\n", 1)[0]}`,
      "Correct config.json, or the function that was registered; the error's cause says where it fails.",
      { cause },
    );
  }
}

const isCount = (value: unknown): boolean => Number.isInteger(value) && Number(value) > 0;
const isFunction = (value: unknown): boolean => typeof value === "function";
const isText = (value: unknown): boolean => typeof value === "string";

/** Members that a model needs, and whether a value is one. */
const NEEDED = {
  family: isText,
  task: isText,
  config: (value) => typeof value === "object" && value !== null,
  parameters: Array.isArray,
  projections: Array.isArray,
  layers: isCount,
  hiddenSize: isCount,
  classes: isCount,
  vocabularySize: (value) => value === 0 || isCount(value),
  maxLength: (value) => value === Infinity || isCount(value),
  heads: Array.isArray,
  defaultTargets: Array.isArray,
  aliases: isFunction,
  ignores: isFunction,
  structures: isFunction,
  embed: isFunction,
  layer: isFunction,
  head: isFunction,
} satisfies Partial<Record<keyof Model, (value: unknown) => boolean>>;

/** @throws ConfigError for what is not a model, and for tensors that do not fit together. */
function checkModel(type: string, model: Model): Model {
  const refuse = (fact: string, remedy: string): never => {
    throw new ConfigError(`The model family ${type}: ${fact}.`, remedy);
  };
  // A program without types may return anything.
  const members: Readonly<Record<string, unknown>> = { ...(model as object) };
  for (const [key, isRight] of Object.entries(NEEDED)) {
    const { [key]: value } = members;
    if (isRight(value)) continue;
    // JSON has no NaN.
    const shown = typeof value === "number" ? String(value) : (JSON.stringify(value) as string | undefined); // undefined for functions, despite its type
    const what = value === undefined ? "missing" : (shown ?? "a function");
    refuse(`${key} of its model is ${what}`, "Return what modelOf({ ... }) returns.");
  }
  const shapes = new Map<string, readonly number[]>();
  for (const { name, shape, layer } of model.parameters) {
    if (shapes.has(name)) refuse(`two tensors are called ${name}`, "Give each a name of its own.");
    if (shape.length === 0 || !shape.every(isCount)) {
      refuse(`${name} has the shape ${formatShape(shape)}`, "Compute its sizes from numbers that config.json has.");
    }
    const isPlace =
      layer === undefined || layer === "below" || (Number.isInteger(layer) && layer >= 0 && layer < model.layers);
    if (!isPlace)
      refuse(`${name} is in layer ${layer} of ${model.layers}`, 'Layers count from 0; below them is "below".');
    shapes.set(name, shape);
  }
  for (const { name, shape } of model.projections.flatMap((projection) => projectionParameters(projection))) {
    const declared = shapes.get(name);
    if (declared && sameShape(declared, shape)) continue;
    refuse(
      declared
        ? `${name} is ${formatShape(declared)}, and its projection needs ${formatShape(shape)}`
        : `${name} is not among its tensors`,
      "A projection's tensors are those of projectionParameters(projection).",
    );
  }
  return model;
}
