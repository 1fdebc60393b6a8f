import * as v from "valibot";
import { decodeBf16, encodeBf16 } from "../base/float";
import { elements } from "../base/shape";
import type { Model } from "../model/model";
import { openCheckpoint } from "./checkpoint";
import type { Checkpoint } from "./checkpoint";
import type { Directory } from "./directory";
import { readJson } from "./json";
import { ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE } from "./peft";
import { readSafetensorsHeader } from "./safetensors";

/** Key of adapter_model.safetensors' metadata, which PEFT passes over. */
const KEY = "safetape_base";

/** Neighbouring elements of a weight, from its middle on, that are kept. */
const COUNT = 8;

/** Formats whose elements a conversion to another of them leaves as they are, to rounding. A quantised base tells nothing. */
const FLOATS: readonly string[] = ["F32", "F16", "BF16"];

/**
 * A few elements of the first and the last layer's matrices, by which a base model is told from others of the same shapes, wherever it
 * lies: JSON of bfloat16 codes in hexadecimal by the weights' names. Undefined for a quantised model.
 */
export async function baseSamples(directory: Directory, model: Model): Promise<string | undefined> {
  const checkpoint = await openCheckpoint(directory);
  const samples: [string, string][] = [];
  for (const { name, shape, layer } of model.parameters) {
    if (shape.length !== 2 || (layer !== 0 && layer !== model.layers - 1)) continue;
    const values = await sampled(checkpoint, model, name);
    if (!values) return undefined;
    samples.push([name, Array.from(encodeBf16(values), (code) => code.toString(16).padStart(4, "0")).join("")]);
  }
  return samples.length === 0 ? undefined : JSON.stringify(Object.fromEntries(samples));
}

/** What the header of an adapter's file says beside its tensors. */
export const adapterMetadata = (samples: string | undefined): Readonly<Record<string, string>> => ({
  format: "pt",
  ...(samples !== undefined && { [KEY]: samples }),
});

/** The samples of its base model that an adapter has; undefined for none. @throws FileFormatError for a damaged header. */
export async function keptSamples(adapter: Directory): Promise<string | undefined> {
  return (await readSafetensorsHeader(adapter, ADAPTER_WEIGHTS_FILE)).metadata.get(KEY);
}

const SAMPLES = v.record(v.string(), v.pipe(v.string(), v.regex(/^(?:[\da-f]{4})+$/)));

/**
 * The name of a weight that an adapter's base model has with other values than a model; undefined where none is known to differ, as of
 * adapters that others have written. Formats of weights make no difference.
 * @throws FileFormatError for damaged files.
 */
export async function differingWeight(
  adapter: Directory,
  directory: Directory,
  model: Model,
): Promise<string | undefined> {
  const samples = v.safeParse(v.pipe(v.string(), v.parseJson(), SAMPLES), await keptSamples(adapter));
  if (!samples.success) return undefined;
  const checkpoint = await openCheckpoint(directory);
  for (const [name, text] of Object.entries(samples.output)) {
    const kept = decodeBf16(Uint16Array.from(text.match(/.{4}/g) ?? [], (code) => Number.parseInt(code, 16)));
    const own = await sampled(checkpoint, model, name, kept.length);
    if (own && !kept.every((value, i) => isNear(value, own[i]!))) return name;
  }
  return undefined;
}

const NAMES = v.looseObject({ base_model_name_or_path: v.nullish(v.string()) });

/**
 * What to say of an adapter that was trained on another model than that of a directory: this may be meant, but its answers are not those
 * that it learnt. Undefined where that is not known. Damaged files are told by whoever reads them for their contents.
 */
export async function remarkOfOtherBase(
  adapter: Directory,
  directory: Directory,
  model: Model,
): Promise<string | undefined> {
  const weight = await differingWeight(adapter, directory, model).catch(() => undefined);
  if (weight === undefined) return undefined;
  const { base_model_name_or_path: base } = await readJson(adapter, ADAPTER_CONFIG_FILE, NAMES);
  return (
    `The adapter in ${adapter.name} was trained on ${base ?? "another model"}, whose ${weight} is not that of ${directory.name}.\n` +
    "Use it with the model that it was trained on, unless this one is meant."
  );
}

/** Elements from a weight's middle on; undefined where the checkpoint lacks the weight, or stores codes of it. */
async function sampled(
  checkpoint: Checkpoint,
  model: Model,
  name: string,
  count = COUNT,
): Promise<Float32Array | undefined> {
  const stored = model.aliases(name).find((alias) => checkpoint.has(alias));
  if (stored === undefined || !FLOATS.includes(checkpoint.info(stored).dtype)) return undefined;
  const size = elements(checkpoint.info(stored).shape);
  const first = Math.floor(size / 2);
  return checkpoint.read(stored, { first, end: Math.min(size, first + count) });
}

/** Whether numbers are equal, to the rounding of 16 bits: of bfloat16's 8 digits twice, and of f16's smallest numbers. */
const isNear = (a: number, b: number): boolean =>
  Math.abs(a - b) <= 2 ** -7 * Math.max(Math.abs(a), Math.abs(b)) + 1e-7;
