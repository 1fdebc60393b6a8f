import { ConfigError } from "../base/errors";
import { stopTexts, tokenIds } from "../io/generation-config";
import type { TokenDecoder } from "../data/text-pieces";
import type { Sampling } from "./sample";

/** A prompt: token ids, without padding. */
export type Prompt = ArrayLike<number>;

/** How texts are continued. */
export interface GenerateOptions {
  /** Maximum number of tokens that are added to a prompt. Default 64. */
  readonly maxNewTokens?: number;
  /** Number of beams of the beam search. 1 (the default) is greedy search, the likeliest token each time, or sampling. */
  readonly beams?: number;
  /**
   * Whether tokens are drawn, as transformers draws them, instead of taking the likeliest. Default: whether `temperature`, `topK`,
   * `topP`, `minP` or `seed` is given; their defaults are generation_config.json's, and those of transformers. Not with beams.
   */
  readonly sample?: boolean;
  /** Logits are divided by this, which is above 0; below 1 it favours likely tokens. Default 1. */
  readonly temperature?: number;
  /** Draws from this many of the likeliest tokens (and those as likely as the last of them); 0 draws from all. Default 50. */
  readonly topK?: number;
  /** Draws from the likeliest tokens whose probabilities reach this together, from 0 to 1. Default 1. */
  readonly topP?: number;
  /** Draws from tokens with at least this share of the likeliest token's probability, from 0 to 1. Default 0. */
  readonly minP?: number;
  /** Of what is drawn: the same seed gives the same texts, whatever the batches. Default 0. */
  readonly seed?: number;
  /**
   * Makes tokens of the prompt and of the continuation less likely: a logit below 0 is multiplied by this, others are divided. 1 changes
   * nothing. With beams, it acts on log-probabilities, as in transformers. Default 1, when sampling generation_config.json's.
   */
  readonly repetitionPenalty?: number;
  /** Scores of continuations are divided by their length to this power. Above 0 it favours longer ones. Default 1. */
  readonly lengthPenalty?: number;
  /** Whether to stop as soon as `beams` continuations have ended, even if better ones might follow. Default false. */
  readonly earlyStopping?: boolean;
  /** Size of n-grams that must not occur twice; 0 allows all. Default 0, when sampling generation_config.json's. */
  readonly noRepeatNgram?: number;
  /**
   * The text whose n-grams `noRepeatNgram` counts: "text" is prompt and continuation, as in transformers (the default);
   * "answer" is the continuation alone, as in Microsoft's LoRA.
   */
  readonly ngramsOf?: "text" | "answer";
  /** Ids of the tokens that end a text. Default: `eos_token_id` of generation_config.json, else of config.json. */
  readonly endIds?: readonly number[];
  /**
   * Texts that end a continuation: it ends with the token that completes one of them. Its prompt does not count. Needs `tokenizer`.
   * Default: `stop_strings` of generation_config.json.
   */
  readonly stop?: readonly string[];
  /** Decodes tokens for `stop`. */
  readonly tokenizer?: TokenDecoder;
  /** Once it is aborted, continuations end as they are, without an error. */
  readonly signal?: Pick<AbortSignal, "aborted">;
  /** Number of prompts in a batch. Default: as many as make 16 rows, with one row for each beam. */
  readonly batchSize?: number;
  /** Called after each batch, with the number of prompts that are done and of all prompts. */
  readonly onDone?: (done: number, total: number) => void;
  /** Called after each token of a batch, with its number and `maxNewTokens`. */
  readonly onToken?: (token: number, maxNewTokens: number) => void;
  /** Called after each token of each prompt, with the prompt's index and the tokens of its best continuation so far. */
  readonly onIds?: (prompt: number, ids: readonly number[]) => void;
}

/** Options that are used as they are given. */
type Untouched = "onDone" | "onToken" | "onIds" | "signal" | "stop" | "tokenizer";

export type GenerateSettings = Required<Omit<GenerateOptions, Untouched | "sample" | keyof Sampling>> & {
  /** Whether a continuation has a stop text; undefined without any. */
  readonly isStopped: ((ids: readonly number[]) => boolean) | undefined;
  /** Undefined for the likeliest tokens. */
  readonly sampling?: Sampling | undefined;
  /** Tokens that a configuration demands at the first and at the last place of every text (BART). */
  readonly forced: { readonly first?: number | undefined; readonly last?: number | undefined };
};

/** The continuation of a prompt. */
export interface Continuation {
  /** Its tokens, without the prompt and without the end token, but with those of a stop text. */
  readonly ids: readonly number[];
  /**
   * Sum of the tokens' log-probabilities (including the end token) / number of tokens ^ length penalty. They are the model's, before
   * temperature and the like; with beams, after the repetition penalty.
   */
  readonly score: number;
  /** Whether it ended with an end token, or a stop text. */
  readonly hasEnded: boolean;
}

/** Rows of a batch by default. */
const ROWS = 16;

/** Options with defaults filled in. @param config `LoadedModel.generationConfig`. @throws ConfigError for a value out of range. */
export function generateSettings(
  options: GenerateOptions,
  config: Readonly<Record<string, unknown>>,
): GenerateSettings {
  const { maxNewTokens = 64, beams = 1, lengthPenalty = 1, earlyStopping = false } = options;
  const sampling = samplingOf(options, config);
  const whenSampling = (key: string, neutral: number) => (sampling ? configured(config, key, neutral) : neutral);
  const { noRepeatNgram = whenSampling("no_repeat_ngram_size", 0) } = options;
  const { repetitionPenalty = whenSampling("repetition_penalty", 1) } = options;
  const { ngramsOf = "text", endIds = tokenIds(config["eos_token_id"]) } = options;
  const { batchSize = Math.max(1, Math.floor(ROWS / beams)) } = options;
  checkCount("maxNewTokens", maxNewTokens, 1);
  checkCount("beams", beams, 1);
  checkCount("noRepeatNgram", noRepeatNgram, 0);
  checkCount("batchSize", batchSize, 1);
  if (!Number.isFinite(lengthPenalty)) {
    throw new ConfigError(`lengthPenalty is ${lengthPenalty}.`, "Give a finite number, such as 0.8.");
  }
  checkNumber("repetitionPenalty", repetitionPenalty, repetitionPenalty > 0, "a number above 0, such as 1.1");
  const [first] = tokenIds(config["forced_bos_token_id"]);
  const [last] = tokenIds(config["forced_eos_token_id"]);
  const search = { maxNewTokens, beams, lengthPenalty, earlyStopping, noRepeatNgram, ngramsOf, endIds, batchSize };
  const { stop = stopTexts(config), tokenizer } = options;
  return { ...search, repetitionPenalty, sampling, isStopped: stopCheck(stop, tokenizer), forced: { first, last } };
}

/** Whether the newest token of a continuation has completed a stop text. */
function stopCheck(stop: readonly string[], tokenizer: TokenDecoder | undefined): GenerateSettings["isStopped"] {
  if (stop.length === 0) return undefined;
  if (!tokenizer) {
    throw new ConfigError(
      `The stop texts ${JSON.stringify(stop).slice(0, 80)} need a tokenizer.`,
      "Give the tokenizer that the prompts are from, or stop: [].",
    );
  }
  if (stop.includes("")) throw new ConfigError("stop has an empty text.", "Leave it out.");
  // A character takes at most four tokens. Texts before these tokens were checked when those were the newest.
  const tail = 4 * Math.max(...stop.map(({ length }) => length)) + 4;
  return (ids) => {
    const text = tokenizer.decode(ids.slice(-tail));
    return stop.some((each) => text.includes(each));
  };
}

const SAMPLING = ["temperature", "topK", "topP", "minP", "seed"] as const;

/**
 * Keys of generation_config.json that change what transformers draws, which `generate` does not do, and the values of those that
 * change nothing.
 */
const UNSUPPORTED: Readonly<Record<string, readonly unknown[]>> = {
  typical_p: [1],
  top_h: [],
  epsilon_cutoff: [0],
  eta_cutoff: [0],
  encoder_repetition_penalty: [1],
  encoder_no_repeat_ngram_size: [0],
  min_length: [0],
  min_new_tokens: [0],
  bad_words_ids: [],
  suppress_tokens: [],
  begin_suppress_tokens: [],
  sequence_bias: [],
  exponential_decay_length_penalty: [],
  guidance_scale: [1],
  penalty_alpha: [0],
  watermarking_config: [],
};

/** The settings of sampling; undefined without it. @throws ConfigError for values out of range, and what is not supported. */
function samplingOf(options: GenerateOptions, config: Readonly<Record<string, unknown>>): Sampling | undefined {
  const given = SAMPLING.find((name) => options[name] !== undefined);
  const { sample = given !== undefined } = options;
  if (!sample) {
    if (given === undefined) return undefined;
    throw new ConfigError(`${given} is for sampling, and sample is false.`, "Leave out one of them.");
  }
  const { beams = configured(config, "num_beams", 1) } = options;
  if (beams > 1)
    throw new ConfigError(`Sampling with ${beams} beams is not supported.`, "Give 1 beam, or do not sample.");
  for (const [key, neutral] of Object.entries(UNSUPPORTED)) {
    const value = config[key] ?? undefined;
    if (value === undefined || neutral.includes(value)) continue;
    throw new ConfigError(
      `generation_config.json has ${key} ${JSON.stringify(value)}, which sampling does not support.`,
      "Take it out, or generate without sampling.",
    );
  }
  const {
    temperature = configured(config, "temperature", 1),
    topK = configured(config, "top_k", 50),
    topP = configured(config, "top_p", 1),
    minP = configured(config, "min_p", 0),
    seed = 0,
  } = options;
  const remedy =
    temperature === 0 ? "a number above 0; without sampling, each token is the likeliest" : "a number above 0";
  checkNumber("temperature", temperature, temperature > 0, remedy);
  checkCount("topK", topK, 0);
  checkNumber("topP", topP, topP >= 0 && topP <= 1, "a number from 0 to 1");
  checkNumber("minP", minP, minP >= 0 && minP <= 1, "a number from 0 to 1");
  checkNumber("seed", seed, Number.isSafeInteger(seed), "a whole number");
  return { temperature, topK, topP, minP, seed };
}

/** A number of a configuration. @throws ConfigError for anything else. */
function configured(config: Readonly<Record<string, unknown>>, key: string, fallback: number): number {
  const value = config[key] ?? fallback;
  if (typeof value === "number") return value;
  throw new ConfigError(`${key} of generation_config.json is ${JSON.stringify(value)}.`, "Make it a number.");
}

function checkNumber(name: string, value: number, isValid: boolean, expected: string): void {
  if (isValid && Number.isFinite(value)) return;
  throw new ConfigError(`${name} is ${value}.`, `Give ${expected}.`);
}

function checkCount(name: string, value: number, minimum: number): void {
  if (Number.isSafeInteger(value) && value >= minimum) return;
  throw new ConfigError(`${name} is ${value}.`, `Give a whole number of at least ${minimum}.`);
}
