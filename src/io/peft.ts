import * as v from "valibot";
import type { Directory, NewFile } from "./directory";
import { jsonBytes, readJson } from "./json";
import { readFloatTensors } from "./safetensors";
import type { FloatTensor } from "./safetensors";
import { safetensorsContent } from "./safetensors-write";
import type { TensorToWrite } from "./safetensors-write";

export const ADAPTER_CONFIG_FILE = "adapter_config.json";
export const ADAPTER_WEIGHTS_FILE = "adapter_model.safetensors";

const CONFIG = v.looseObject({ peft_type: v.string() });

/** An adapter_config.json: `peft_type` ("LORA", "IA3", ...) and the keys of that kind. */
export type PeftConfig = Readonly<Record<string, unknown>> & { readonly peft_type: string };

/** An adapter as its files store it. */
export interface PeftAdapter {
  readonly config: PeftConfig;
  /** By the file's keys ("base_model.model...."), in its order. */
  readonly tensors: ReadonlyMap<string, FloatTensor>;
}

/**
 * Reads an adapter of any kind that PEFT or `writeAdapterDirectory` has saved. Of its configuration only `peft_type` is
 * checked.
 * @throws FileFormatError if a file is missing or damaged, or has no `peft_type`.
 */
export async function readAdapterDirectory(directory: Directory): Promise<PeftAdapter> {
  const config = await readJson(directory, ADAPTER_CONFIG_FILE, CONFIG);
  return { config, tensors: await readFloatTensors(directory, ADAPTER_WEIGHTS_FILE) };
}

/**
 * Writes an adapter as PEFT does: adapter_model.safetensors, then adapter_config.json, both or neither.
 * @param tensors by the file's keys.
 * @param beside further files that are written with them.
 * @param metadata of adapter_model.safetensors. Default {"format": "pt"}.
 * @throws FileFormatError or ShapeError; the directory is then as it was.
 */
export async function writeAdapterDirectory(
  directory: Directory,
  config: PeftConfig,
  tensors: Iterable<TensorToWrite>,
  beside: readonly NewFile[] = [],
  metadata?: Readonly<Record<string, string>>,
): Promise<void> {
  const sorted = Object.fromEntries(Object.entries(config).sort(([a], [b]) => (a < b ? -1 : 1)));
  await directory.writeTogether([
    ...beside,
    { file: ADAPTER_WEIGHTS_FILE, content: safetensorsContent(tensors, { ...(metadata && { metadata }) }) },
    { file: ADAPTER_CONFIG_FILE, content: jsonBytes(sorted) },
  ]);
}
