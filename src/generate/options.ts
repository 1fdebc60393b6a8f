import { ConfigError } from "../base/errors";
import { tokenIds } from "../io/generation-config";

/** A prompt: token ids, without padding. */
export type Prompt = ArrayLike<number>;

/** How texts are continued. */
export interface GenerateOptions {
  /** Maximum number of tokens that are added to a prompt. Default 64. */
  readonly maxNewTokens?: number;
  /** Number of beams of the beam search. 1 (the default) is greedy search: the likeliest token each time. */
  readonly beams?: number;
  /** Scores of continuations are divided by their length to this power. Above 0 it favours longer ones. Default 1. */
  readonly lengthPenalty?: number;
  /** Whether to stop as soon as `beams` continuations have ended, even if better ones might follow. Default false. */
  readonly earlyStopping?: boolean;
  /** Size of n-grams that must not occur twice; 0 (the default) allows all. */
  readonly noRepeatNgram?: number;
  /**
   * The text whose n-grams `noRepeatNgram` counts: "text" is prompt and continuation, as in transformers (the default);
   * "answer" is the continuation alone, as in Microsoft's LoRA.
   */
  readonly ngramsOf?: "text" | "answer";
  /** Ids of the tokens that end a text. Default: `eos_token_id` of generation_config.json, else of config.json. */
  readonly endIds?: readonly number[];
  /** Number of prompts in a batch. Default: as many as make 16 rows, with one row for each beam. */
  readonly batchSize?: number;
  /** Called after each batch, with the number of prompts that are done and of all prompts. */
  readonly onDone?: (done: number, total: number) => void;
  /** Called after each token of a batch, with its number and `maxNewTokens`. */
  readonly onToken?: (token: number, maxNewTokens: number) => void;
}

export type GenerateSettings = Required<Omit<GenerateOptions, "onDone" | "onToken">> & {
  /** Tokens that a configuration demands at the first and at the last place of every text (BART). */
  readonly forced: { readonly first?: number | undefined; readonly last?: number | undefined };
};

/** The continuation of a prompt. */
export interface Continuation {
  /** Its tokens, without the prompt and without the end token. */
  readonly ids: readonly number[];
  /** Sum of the tokens' log-probabilities (including the end token) / number of tokens ^ length penalty. */
  readonly score: number;
  /** Whether it ended with an end token. */
  readonly hasEnded: boolean;
}

/** Rows of a batch by default. */
const ROWS = 16;

/** Options with defaults filled in. @param config `LoadedModel.generationConfig`. @throws ConfigError for a value out of range. */
export function generateSettings(
  options: GenerateOptions,
  config: Readonly<Record<string, unknown>>,
): GenerateSettings {
  const { maxNewTokens = 64, beams = 1, lengthPenalty = 1, earlyStopping = false, noRepeatNgram = 0 } = options;
  const { ngramsOf = "text", endIds = tokenIds(config["eos_token_id"]) } = options;
  const { batchSize = Math.max(1, Math.floor(ROWS / beams)) } = options;
  checkCount("maxNewTokens", maxNewTokens, 1);
  checkCount("beams", beams, 1);
  checkCount("noRepeatNgram", noRepeatNgram, 0);
  checkCount("batchSize", batchSize, 1);
  if (!Number.isFinite(lengthPenalty)) {
    throw new ConfigError(`lengthPenalty is ${lengthPenalty}.`, "Give a finite number, such as 0.8.");
  }
  const [first] = tokenIds(config["forced_bos_token_id"]);
  const [last] = tokenIds(config["forced_eos_token_id"]);
  const search = { maxNewTokens, beams, lengthPenalty, earlyStopping, noRepeatNgram, ngramsOf, endIds, batchSize };
  return { ...search, forced: { first, last } };
}

function checkCount(name: string, value: number, minimum: number): void {
  if (Number.isSafeInteger(value) && value >= minimum) return;
  throw new ConfigError(`${name} is ${value}.`, `Give a whole number of at least ${minimum}.`);
}
