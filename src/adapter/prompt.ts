import * as v from "valibot";
import { ConfigError, ShapeError } from "../base/errors";
import type { Random } from "../base/random";
import { formatShape } from "../base/shape";
import { checkSchema } from "../io/json";
import type { PeftConfig } from "../io/peft";
import { entryOf } from "../io/safetensors";
import type { FloatTensor } from "../io/safetensors";
import type { Forward } from "../model/forward";
import type { Model } from "../model/model";
import { prepend } from "../ops/prepend";
import type { Value } from "../tape/tape";
import type { Adapter, AdapterTensor } from "./adapter";
import { normal } from "./initial";
import { checkReadsTexts, EMBEDDINGS, embeddingWidth, PROMPT_KEYS, promptFiles } from "./prompt-file";
import type { PromptConfig } from "./prompt-file";

export type InitialPrompt = "random" | "vocabulary" | readonly number[];

export interface PromptOptions {
  /** Virtual tokens before each text. Default 20. */
  readonly tokens?: number;
  /**
   * Initial embeddings: from N(0, 1); of tokens drawn from the vocabulary; or of the tokens of a text, cut or repeated to
   * the number of virtual tokens. PEFT's RANDOM, SAMPLE_VOCAB and TEXT. Embeddings are taken as the model reads them: those of a
   * model that multiplies them (Gemma, BART's scale_embedding) are multiplied, as in PEFT 0.21. Default "random".
   */
  readonly initial?: InitialPrompt;
  /** Modules of which all tensors are trained as well. Default the task's head. */
  readonly modulesToSave?: readonly string[];
}

const SCHEMA = v.object({ peft_type: v.literal("PROMPT_TUNING"), ...PROMPT_KEYS });

/**
 * Prompt tuning (Lester et al. 2021): the embeddings P [n, d] of n virtual tokens before each text learn, and the head. The
 * positions of the text continue behind them, and the labels of a language model leave them out. Of an encoder-decoder the encoder
 * alone reads them.
 *
 * Keeps the activations of every layer, since the gradient must reach the first layer's input. No layer has anything to freeze;
 * only freezing the prompt itself would give back memory.
 * @throws ConfigError for a model of images, for a text without tokens, and for a token that the model does not have.
 */
export function promptTuning({ tokens = 20, initial = "random", modulesToSave }: PromptOptions = {}): Adapter {
  if (typeof initial === "string" && !["random", "vocabulary"].includes(initial)) {
    // For the compiler there is no other string, but JavaScript and JSON can contain one.
    const unknown = initial as string;
    throw new ConfigError(`promptTuning: initial is ${unknown}.`, 'Give "random", "vocabulary" or token ids.');
  }
  const keys = {
    peft_type: "PROMPT_TUNING",
    num_virtual_tokens: tokens,
    modules_to_save: modulesToSave && [...modulesToSave],
  };
  return promptFromConfig(keys, "the prompt tuning configuration", initial);
}

/** Rows of the embedding table with which a prompt begins; undefined for random values. */
function initialRows(model: Model, count: number, initial: InitialPrompt): AdapterTensor["initialRows"] {
  const { wordEmbeddings: table, embeddingScale: scale, vocabularySize } = model;
  if (initial === "random" || table === undefined) return undefined;
  if (initial === "vocabulary") {
    return {
      table,
      scale,
      rows: (random: Random) => Array.from({ length: count }, () => random.below(vocabularySize)),
    };
  }
  const unknown = initial.find((id) => !Number.isInteger(id) || id < 0 || id >= vocabularySize);
  if (initial.length === 0 || unknown !== undefined) {
    throw new ConfigError(
      initial.length === 0
        ? "The initial text of the prompt has no tokens."
        : `The initial text of the prompt has the token id ${unknown}; the model has ids below ${vocabularySize}.`,
      "Give ids of the model's own tokenizer.",
    );
  }
  return { table, scale, rows: () => Array.from({ length: count }, (_, i) => initial[i % initial.length]!) };
}

/** Prompt tuning by its adapter_config.json. @throws FileFormatError for a wrong value. */
export function promptFromConfig(value: PeftConfig, where: string, initial: InitialPrompt = "random"): Adapter {
  const config = checkSchema(SCHEMA, value, where);
  return promptAdapter("prompt", config, { peft_type: config.peft_type, prompt_tuning_init: "RANDOM" }, initial);
}

/**
 * An adapter that puts embeddings [n, d] before those of each text.
 * @param keys of adapter_config.json that its method alone has.
 */
export function promptAdapter(
  kind: string,
  config: PromptConfig,
  keys: PeftConfig,
  initial: InitialPrompt = "random",
): Adapter {
  const count = config.num_virtual_tokens;
  return {
    kind,
    virtualTokens: count,
    ...promptFiles(config, {
      config: (model) => ({ ...promptSizes(model), ...keys }),
      tensors(model) {
        checkReadsTexts(model);
        const rows = initialRows(model, count, initial);
        return [
          {
            ...normal(EMBEDDINGS, [count, embeddingWidth(model)], 1),
            layer: "below",
            ...(rows && { initialRows: rows }),
          },
        ];
      },
      saved: (_model, tensors) => entryOf(tensors, EMBEDDINGS, "the adapter"),
      loaded: (model, saved, where) => new Map([[EMBEDDINGS, readRows(config, model, saved, where)]]),
    }),
    embedded: (forward, x) => withPrompt(forward, forward.recorder.parameter(EMBEDDINGS, [count, x.shape.at(-1)!]), x),
  };
}

/**
 * The rows [n, d] of a file's tensor that a model reads. For an encoder-decoder PEFT writes n rows more, unless told otherwise
 * (num_transformer_submodules: 1), which neither it nor its training reads.
 */
function readRows(
  { num_virtual_tokens: count, num_transformer_submodules: submodules }: PromptConfig,
  model: Model,
  { shape, data }: FloatTensor,
  where: string,
): FloatTensor {
  const written = count * (submodules ?? (model.encoderDecoder ? 2 : 1));
  const [rows = 0, width = 0] = shape;
  if (shape.length === 2 && rows === written) return { shape: [count, width], data: data.subarray(0, count * width) };
  throw new ShapeError(
    `${EMBEDDINGS} is ${formatShape(shape)} in ${where}, but its adapter_config.json tells of ${written} rows.`,
    "Take both files from the same folder.",
  );
}

/** Embeddings x [b, t, d] of texts, each behind a prompt [n, d]. */
export const withPrompt = ({ recorder }: Forward, head: Value, x: Value): Value =>
  recorder.apply(prepend, { head, x }, {});

/** Keys under which configurations say how many heads there are. */
const HEAD_KEYS = ["num_attention_heads", "n_heads", "n_head", "num_heads", "encoder_attention_heads"];

/** Sizes that PEFT demands of prompts. */
const promptSizes = (model: Model) => ({
  token_dim: embeddingWidth(model),
  // PEFT does not find it in DistilBERT's configuration.
  num_attention_heads: HEAD_KEYS.map((key) => model.config[key]).find((heads) => heads !== undefined),
});
