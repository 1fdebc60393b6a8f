import { ConfigError } from "../base/errors";

/** How texts are continued. */
export interface GenerateOptions {
  /** Most tokens that are added to a prompt. Default 64. */
  readonly maxNewTokens?: number;
  /** Continuations that are followed side by side; 1 (the default) takes the likeliest token each time. */
  readonly beams?: number;
  /** Scores of continuations are divided by their length to this power: above 0 favours longer ones. Default 1. */
  readonly lengthPenalty?: number;
  /** Ends as soon as as many continuations as beams have ended, though better ones might follow. Default false. */
  readonly earlyStopping?: boolean;
  /** No n tokens in a row come twice; 0 (the default) for no such rule. */
  readonly noRepeatNgram?: number;
  /**
   * Where such n tokens are looked for: prompt and answer, as in transformers (the default), or the answer alone, as in
   * Microsoft's LoRA.
   */
  readonly ngramsOf?: "text" | "answer";
  /** Tokens that end a text. Default: the end token of config.json. */
  readonly endIds?: readonly number[];
  /** Prompts worked on at once. Default: as many as make 16 rows, beams included. */
  readonly batchSize?: number;
  /** Called after each prompt that is done. */
  readonly onDone?: (done: number, of: number) => void;
  /** Called after each token of the prompts that are worked on, which get at most so many. */
  readonly onToken?: (made: number, most: number) => void;
}

export type GenerateSettings = Required<Omit<GenerateOptions, "onDone" | "onToken">>;

/** What a prompt is continued with. */
export interface Continuation {
  /** Its tokens, without the prompt and the token that ended it. */
  readonly ids: readonly number[];
  /** Sum of the tokens' log-probabilities (the end's included) over their number to the length penalty. */
  readonly score: number;
  /** Whether an end token came before the limit. */
  readonly hasEnded: boolean;
}

const ROWS = 16;

/** Options with defaults filled in. @throws ConfigError for a value that makes no sense. */
export function generateSettings(
  options: GenerateOptions,
  config: Readonly<Record<string, unknown>>,
): GenerateSettings {
  const { maxNewTokens = 64, beams = 1, lengthPenalty = 1, earlyStopping = false, noRepeatNgram = 0 } = options;
  const { ngramsOf = "text", endIds = endsOf(config) } = options;
  const { batchSize = Math.max(1, Math.floor(ROWS / beams)) } = options;
  count("maxNewTokens", maxNewTokens, 1);
  count("beams", beams, 1);
  count("noRepeatNgram", noRepeatNgram, 0);
  count("batchSize", batchSize, 1);
  if (!Number.isFinite(lengthPenalty)) {
    throw new ConfigError(`lengthPenalty is ${lengthPenalty}.`, "Give a finite number, as 0.8.");
  }
  return { maxNewTokens, beams, lengthPenalty, earlyStopping, noRepeatNgram, ngramsOf, endIds, batchSize };
}

function count(name: string, value: number, least: number): void {
  if (Number.isSafeInteger(value) && value >= least) return;
  throw new ConfigError(`${name} is ${value}.`, `Give a whole number from ${least}.`);
}

/** `eos_token_id` of a configuration: one id, or several. */
function endsOf({ eos_token_id: told }: Readonly<Record<string, unknown>>): readonly number[] {
  const ids = Array.isArray(told) ? told : [told];
  return ids.filter((id): id is number => Number.isSafeInteger(id));
}
