import { ConfigError } from "../base/errors";
import type { Tie } from "../model/forward";
import type { Model } from "../model/model";
import { savedModuleTensors } from "./targets";

/** Names of modules for which PEFT's `ensure_weight_tying` acts. */
const TABLES = ["embed_tokens", "lm_head"];

/**
 * What a language model's last projection reads where it shares the embeddings' table and one of both is saved
 * (`modules_to_save`), as in PEFT: a saved module is a copy that nothing else reads. The projection has then the table of the
 * checkpoint, or where it is saved itself, a copy of its own. With `ensure_weight_tying` both share the table that is saved.
 * Undefined where neither is saved.
 * @throws ConfigError for an encoder-decoder, whose table several modules read under names of their own.
 */
export function tieOf(model: Model, modules: readonly string[], isEnsured: boolean): Tie | undefined {
  const { tiedOutput: tied, encoderDecoder, wordEmbeddings } = model;
  const savesOutput = tied !== undefined && modules.some((module) => tied.module.endsWith(module));
  const savesTable = savedModuleTensors(model, modules).some((name) => name === wordEmbeddings);
  if (encoderDecoder && (savesOutput || savesTable)) {
    throw new ConfigError(
      `modules_to_save names the table of this ${model.family} model's embeddings, which its encoder and decoder share: PEFT trains a copy that neither of them reads.`,
      "Save other modules, or none.",
    );
  }
  if (!tied || !(savesOutput || savesTable)) return undefined;
  if (isEnsured && modules.some((module) => TABLES.includes(module.slice(module.lastIndexOf(".") + 1))))
    return "shared";
  return savesOutput ? "own" : "original";
}
