import * as v from "valibot";
import { ConfigError } from "../base/errors";
import type { Random } from "../base/random";
import { checkSchema } from "../io/json";
import type { PeftConfig } from "../io/peft";
import { bareName } from "../io/wrappers";
import type { Model } from "../model/model";
import { prepend } from "../ops/prepend";
import type { Adapter, AdapterTensor } from "./adapter";
import { normal } from "./initial";
import { savedModuleTensors, taskType } from "./targets";

export type InitialPrompt = "random" | "vocabulary" | readonly number[];

export interface PromptOptions {
  /** Virtual tokens before each text. Default 20. */
  readonly tokens?: number;
  /**
   * Initial embeddings: from N(0, 1); of tokens drawn from the vocabulary; or of the tokens of a text, cut or repeated to
   * the number of virtual tokens. PEFT's RANDOM, SAMPLE_VOCAB and TEXT. Default "random".
   */
  readonly initial?: InitialPrompt;
  /** Modules of which all tensors are trained as well. Default the task's head. */
  readonly modulesToSave?: readonly string[];
}

const COUNT = v.pipe(v.number(), v.safeInteger(), v.minValue(1));
const SCHEMA = v.object({
  peft_type: v.literal("PROMPT_TUNING"),
  num_virtual_tokens: COUNT,
  num_transformer_submodules: v.optional(v.nullable(v.literal(1)), 1),
  modules_to_save: v.optional(v.nullable(v.array(v.string())), null),
});

const EMBEDDINGS = "prompt_embeddings";
/** Prefix of a file's keys: PEFT wraps the complete model here, not its modules, so that there is no second `model.`. */
const PREFIX = "base_model.";

/**
 * Prompt tuning (Lester et al. 2021): the embeddings P [n, d] of n virtual tokens before each text learn, and the head. The
 * positions of the text continue behind them, and the labels of a language model leave them out.
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
  const { wordEmbeddings: table, vocabularySize } = model;
  if (initial === "random" || table === undefined) return undefined;
  if (initial === "vocabulary") {
    return { table, rows: (random: Random) => Array.from({ length: count }, () => random.below(vocabularySize)) };
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
  return { table, rows: () => Array.from({ length: count }, (_, i) => initial[i % initial.length]!) };
}

/** Prompt tuning by its adapter_config.json. @throws FileFormatError for a wrong value. */
export function promptFromConfig(value: PeftConfig, where: string, initial: InitialPrompt = "random"): Adapter {
  const config = checkSchema(SCHEMA, value, where);
  const count = config.num_virtual_tokens;
  const heads = (model: Model): readonly string[] => config.modules_to_save ?? model.heads;
  const adapter: Adapter = {
    kind: "prompt",
    virtualTokens: count,
    tensors(model) {
      if (model.image ?? model.encoderDecoder) {
        throw new ConfigError(
          model.image
            ? `${model.family} reads images, not texts.`
            : `${model.family} is an encoder-decoder, for which prompt tuning is not there.`,
          "Use an adapter of its projections, such as lora().",
        );
      }
      const rows = initialRows(model, count, initial);
      return [
        { ...normal(EMBEDDINGS, [count, model.hiddenSize], 1), layer: "below", ...(rows && { initialRows: rows }) },
      ];
    },
    baseTensors: (model) => savedModuleTensors(model, heads(model)),
    embedded: (forward, x) => {
      const head = forward.recorder.parameter(EMBEDDINGS, [count, x.shape.at(-1)!]);
      return forward.recorder.apply(prepend, { head, x }, {});
    },
    peftConfig: (model) => ({
      ...config,
      num_transformer_submodules: 1,
      modules_to_save: [...heads(model)],
      num_layers: model.layers,
      token_dim: model.hiddenSize,
      // PEFT demands it, and does not find it in DistilBERT's configuration.
      num_attention_heads: model.config["num_attention_heads"] ?? model.config["n_heads"] ?? model.config["n_head"],
      prompt_tuning_init: "RANDOM",
      task_type: taskType(model),
      inference_mode: true,
    }),
    toFile: (model, tensors) => ({
      config: adapter.peftConfig(model),
      tensors: new Map([...tensors].map(([name, tensor]) => [name === EMBEDDINGS ? name : `${PREFIX}${name}`, tensor])),
    }),
    fromFile: (stored) =>
      new Map([...stored].map(([key, tensor]) => [bareName(key).replace(/^base_model\.(?:model\.)?/, ""), tensor])),
  };
  return adapter;
}
