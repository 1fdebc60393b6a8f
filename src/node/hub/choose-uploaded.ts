import { stat } from "node:fs/promises";
import { isAbsolute, join } from "node:path";
import * as v from "valibot";
import { FileFormatError } from "../../base/errors";
import { CONFIG_FILE, INDEX_FILE, openCheckpoint, readShards, WEIGHTS_FILE } from "../../io/checkpoint";
import type { Directory } from "../../io/directory";
import { readJson } from "../../io/json";
import { CARD_FILE, isHubId } from "../../io/model-card";
import { ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE } from "../../io/peft";
import { readHeader } from "../../io/safetensors";
import { SENTENCEPIECE_FILES, TEXT_FILES } from "../../io/tokenizer-files";

/** What is uploaded of a directory. */
export interface ChosenFiles {
  readonly files: readonly string[];
  /** Files that stay on this machine. */
  readonly left: readonly string[];
  readonly warnings: readonly string[];
}

/** Files of adapters and models that go with them. */
const BESIDE: readonly string[] = [...TEXT_FILES, ...SENTENCEPIECE_FILES, "preprocessor_config.json"];

const LICENCE = /^(?:LICEN[CS]E|NOTICE)(?:\.(?:txt|md))?$/i;

/** Files and folders of runs that have not ended, here and of other programs. */
const UNFINISHED = /^(?:checkpoints|checkpoint-\d+)$|^checkpoint-\d+\.safetensors$/;

const NAMES = v.looseObject({
  base_model_name_or_path: v.optional(v.nullable(v.string())),
  _name_or_path: v.optional(v.nullable(v.string())),
});

/**
 * The files of a directory that make an adapter or a model, which are checked before anything is sent.
 * @param entries names of everything in it, folders included.
 * @throws FileFormatError for checkpoints of a run, without a model card, for files that are missing or damaged, and for an adapter
 * whose base model is a path.
 */
export async function filesToUpload(directory: Directory, entries: readonly string[]): Promise<ChosenFiles> {
  const { name } = directory;
  const unfinished = entries.find((entry) => UNFINISHED.test(entry));
  if (unfinished !== undefined) {
    throw new FileFormatError(
      `${join(name, unfinished)} is of a run that has not ended.`,
      "Finish the run with --resume, or upload a directory with an adapter or a model alone.",
    );
  }
  const isAdapter = entries.includes(ADAPTER_CONFIG_FILE);
  if (!isAdapter && !entries.includes(CONFIG_FILE)) {
    throw new FileFormatError(
      `${name} has neither ${ADAPTER_CONFIG_FILE} nor ${CONFIG_FILE}.`,
      "Give the directory of an adapter or of a model.",
    );
  }
  if (!entries.includes(CARD_FILE)) {
    throw new FileFormatError(
      `${name} has no ${CARD_FILE}, the model card.`,
      isAdapter
        ? "saveAdapter and safetape train write one; or write it yourself."
        : "Write one: what the model is, what it was made from, and its licence.",
    );
  }
  const own = isAdapter ? await adapterFiles(directory) : await modelFiles(directory);
  const files = [CARD_FILE, ...own, ...entries.filter((entry) => BESIDE.includes(entry) || LICENCE.test(entry))];
  const left = (await directory.list()).filter((entry) => !files.includes(entry));
  return { files, left, warnings: await warningsOf(directory, isAdapter) };
}

async function adapterFiles(directory: Directory): Promise<string[]> {
  await readHeader(directory, ADAPTER_WEIGHTS_FILE); // Throws for a file that is missing or cut off.
  return [ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE];
}

async function modelFiles(directory: Directory): Promise<string[]> {
  await openCheckpoint(directory); // Throws for files that are missing or cut off.
  const isWhole = (await directory.size(WEIGHTS_FILE)) !== undefined;
  return [CONFIG_FILE, ...(isWhole ? [WEIGHTS_FILE] : [INDEX_FILE, ...(await readShards(directory))])];
}

/** Whether a name can only be a path: no ID begins like this, or has more than one slash. */
const isPath = (name: string): boolean => isAbsolute(name) || !isHubId(name);

async function warningsOf(directory: Directory, isAdapter: boolean): Promise<string[]> {
  const file = isAdapter ? ADAPTER_CONFIG_FILE : CONFIG_FILE;
  const { base_model_name_or_path: base, _name_or_path: source } = await readJson(directory, file, NAMES);
  if (!isAdapter) {
    // Many published models have the path of their makers, which loaders pass over.
    return source && isPath(source)
      ? [`${file} has a path of another machine or this one: _name_or_path ${source}`]
      : [];
  }
  if (!base) return [`${file} names no base model: whoever loads the adapter has to know it`];
  if (isPath(base)) {
    throw new FileFormatError(
      `${file} in ${directory.name} names its base model by a path: ${base}.`,
      "Write OWNER/NAME there, as base_model_name_or_path; safetape train --base-model does.",
    );
  }
  const isHere = (await stat(base).catch(() => undefined))?.isDirectory() ?? false;
  return isHere ? [`${base}, the base model, is also a directory here: is it a model on the Hub?`] : [];
}
