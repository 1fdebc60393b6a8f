import { ConfigError } from "../base/errors";
import { bert, roberta } from "./bert";
import { gpt2 } from "./gpt2";
import { llama } from "./llama";
import type { Model } from "./model";
import { vit } from "./vit";

/** `model_type` -> how to build the model from its config.json. */
const FAMILIES: Readonly<Record<string, (config: Readonly<Record<string, unknown>>) => Model>> = {
  ...{ bert, roberta, gpt2, llama, vit },
};

/** The families that can be loaded, by `model_type`. */
export const MODEL_TYPES: readonly string[] = Object.keys(FAMILIES);

/**
 * The model that a config.json describes, without its weights.
 * @throws ConfigError for an unknown `model_type`, activation, or a value that makes no sense.
 */
export function createModel(config: Readonly<Record<string, unknown>>): Model {
  const type = config["model_type"];
  const build = typeof type === "string" && Object.hasOwn(FAMILIES, type) ? FAMILIES[type] : undefined;
  if (!build) {
    throw new ConfigError(
      `config.json: model_type ${JSON.stringify(type)} is unknown.`,
      `Supported families: ${MODEL_TYPES.join(", ")}.`,
    );
  }
  return build(config);
}
