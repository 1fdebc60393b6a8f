import * as v from "valibot";
import { ConfigError } from "../base/errors";
import type { Directory } from "./directory";
import { readJson } from "./json";

const GENERATION_CONFIG_FILE = "generation_config.json";
const OBJECT = v.record(v.string(), v.unknown());

/**
 * What a configuration says about generation, with generation_config.json before config.json, as in transformers.
 * @param config the content of config.json.
 * @throws FileFormatError for a file that is not a JSON object.
 */
export async function generationConfig(
  directory: Directory,
  config: Readonly<Record<string, unknown>>,
): Promise<Readonly<Record<string, unknown>>> {
  if ((await directory.size(GENERATION_CONFIG_FILE)) === undefined) return config;
  const own = Object.entries(await readJson(directory, GENERATION_CONFIG_FILE, OBJECT));
  return { ...config, ...Object.fromEntries(own.filter(([, value]) => value !== null)) };
}

/** A key of a configuration that is one text or several. @throws ConfigError for anything else. */
export function stopTexts({ stop_strings: value }: Readonly<Record<string, unknown>>): readonly string[] {
  const texts: readonly unknown[] = Array.isArray(value) ? value : [value ?? []].flat();
  if (texts.every((text) => typeof text === "string")) return texts;
  throw new ConfigError(
    `stop_strings of generation_config.json is ${JSON.stringify(value).slice(0, 80)}.`,
    "Make it a text, or a list of texts.",
  );
}

/** A key of a configuration that is one token id or several. */
export function tokenIds(value: unknown): readonly number[] {
  const ids: readonly unknown[] = Array.isArray(value) ? value : [value];
  return ids.filter((id): id is number => Number.isSafeInteger(id));
}
