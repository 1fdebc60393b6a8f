import { FileFormatError, ShapeError } from "../base/errors";
import type { FloatTensor } from "./safetensors";

const PREFIX = "base_model.model.";

/** One module's LoRA matrices: y + scale * B A x. A is [rank, in], B is [out, rank]. */
export interface LoraTensors {
  readonly a: FloatTensor;
  readonly b: FloatTensor;
  /** [out], where the adapter was trained with `bias: "lora_only"`. */
  readonly bias?: FloatTensor;
}

/** An adapter file's tensors, sorted into those of adapted modules and whole parameters ("classifier.weight"). */
export interface LoraFile {
  readonly modules: ReadonlyMap<string, LoraTensors>;
  readonly heads: ReadonlyMap<string, FloatTensor>;
}

/** The key of A or B: module "bert.encoder.layer.0.attention.self.query", part "A" -> "base_model.model....lora_A.weight". */
export function loraKey(module: string, part: "A" | "B"): string {
  return `${PREFIX}${module}.lora_${part}.weight`;
}

/** The key of an adapted module's bias, trained with `bias: "lora_only"`. */
export function loraBiasKey(module: string): string {
  return `${PREFIX}${module}.base_layer.bias`;
}

/** The key of a parameter trained whole, such as "classifier.weight". */
export function headKey(parameter: string): string {
  return `${PREFIX}${parameter}`;
}

/** A file's key without PEFT's prefix; some releases also keep "modules_to_save." in it. */
export function stripPrefix(key: string): string {
  const bare = key.startsWith(PREFIX) ? key.slice(PREFIX.length) : key;
  return bare.replace(/\.modules_to_save(\.default)?\./, ".");
}

/**
 * Sorts the tensors of a LORA adapter. Throws FileFormatError for an A without its B or the reverse, ShapeError where the
 * two do not have the same rank.
 */
export function sortLoraTensors(tensors: ReadonlyMap<string, FloatTensor>, where: string): LoraFile {
  const parts = new Map<string, { a?: FloatTensor; b?: FloatTensor; bias?: FloatTensor }>();
  const heads = new Map<string, FloatTensor>();
  const biases = new Map<string, FloatTensor>();
  for (const [key, tensor] of tensors) {
    const name = stripPrefix(key);
    const [, module, part] = /^(.+)\.lora_([AB])(?:\.default)?\.weight$/s.exec(name) ?? [];
    if (module !== undefined) {
      const found = parts.get(module) ?? {};
      parts.set(module, part === "A" ? { ...found, a: tensor } : { ...found, b: tensor });
    } else if (name.endsWith(".base_layer.bias")) biases.set(name.slice(0, -".base_layer.bias".length), tensor);
    else if (name.includes(".lora_")) throw unknownKey(key, where);
    else heads.set(name, tensor);
  }
  for (const [module, bias] of biases) parts.set(module, { ...parts.get(module), bias });
  return { modules: new Map([...parts].map(([module, found]) => [module, checkPair(module, found, where)])), heads };
}

function checkPair(module: string, { a, b, bias }: Partial<LoraTensors>, where: string): LoraTensors {
  if (a === undefined || b === undefined) {
    throw new FileFormatError(
      `${module} has no ${a === undefined ? "lora_A" : "lora_B"} in ${where}`,
      "the adapter is incomplete: save it again",
    );
  }
  const [rank, input] = a.shape;
  const [output, sameRank] = b.shape;
  if (a.shape.length !== 2 || b.shape.length !== 2 || rank !== sameRank || !rank || !input || !output) {
    throw new ShapeError(
      `${module} has lora_A [${a.shape.join(", ")}] and lora_B [${b.shape.join(", ")}] in ${where}`,
      "they must be [rank, in] and [out, rank]",
    );
  }
  if (bias !== undefined && (bias.shape.length !== 1 || bias.shape[0] !== output)) {
    throw new ShapeError(`${module} has a bias [${bias.shape.join(", ")}] in ${where}`, `it must be [${output}]`);
  }
  return { a, b, ...(bias === undefined ? {} : { bias }) };
}

function unknownKey(key: string, where: string): FileFormatError {
  return new FileFormatError(
    `${JSON.stringify(key.slice(0, 200))} in ${where} is no key of a LoRA adapter of linear layers`,
    "adapters of embeddings or of other kinds need their own reader",
  );
}
