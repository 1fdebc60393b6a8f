import * as v from "valibot";
import { ConfigError } from "../base/errors";
import type { Random } from "../base/random";
import { checkSchema } from "../io/json";
import type { PeftConfig } from "../io/peft";
import type { Model } from "../model/model";
import { prepend } from "../ops/prepend";
import type { Adapter } from "./adapter";
import { normal } from "./initial";
import { savedModuleTensors, taskType } from "./targets";

export interface PromptOptions {
  /** Virtual tokens before each text. Default 20. */
  readonly tokens?: number;
  /**
   * Where the virtual tokens begin: at N(0, 1); at tokens of the vocabulary drawn at random; or at the tokens of a text,
   * cut or repeated to as many. PEFT's RANDOM, SAMPLE_VOCAB and TEXT. Default "random".
   */
  readonly initial?: "random" | "vocabulary" | readonly number[];
  /** Whole modules to train as well; default the task's head. */
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
/** PEFT wraps the whole model here, not its modules: keys have one `model.` less. */
const PREFIX = "base_model.";

/**
 * Prompt tuning (Lester et al. 2021): the embeddings P [n, d] of virtual tokens before each text learn, from random values or
 * those of words, and nothing else but the head. Positions count on behind them; a language model's labels leave them out.
 *
 * Keeps every layer's activations, since the gradient must reach the first layer's input: freezing cannot help.
 * @throws ConfigError for a model of images, or a text without tokens or with one that the model does not know.
 */
export function promptTuning({ tokens = 20, initial = "random", modulesToSave }: PromptOptions = {}): Adapter {
  if (typeof initial === "string" && !["random", "vocabulary"].includes(initial)) {
    throw new ConfigError(`A prompt is to begin ${initial as string}.`, 'Give "random", "vocabulary" or token ids.');
  }
  const keys = modulesToSave === undefined ? {} : { modules_to_save: [...modulesToSave] };
  const config = { peft_type: "PROMPT_TUNING", num_virtual_tokens: tokens, ...keys };
  return promptFromConfig(config, "the prompt tuning configuration", initial);
}

/** Rows of the vocabulary that a prompt begins with; undefined for random values. */
function initialRows(model: Model, count: number, initial: Required<PromptOptions>["initial"]) {
  const { wordEmbeddings: table, vocabularySize } = model;
  if (initial === "random" || table === undefined) return undefined;
  if (initial === "vocabulary") {
    return { table, rows: (random: Random) => Array.from({ length: count }, () => random.below(vocabularySize)) };
  }
  const bad = initial.find((id) => !Number.isInteger(id) || id < 0 || id >= vocabularySize);
  if (initial.length === 0 || bad !== undefined) {
    throw new ConfigError(
      initial.length === 0
        ? "The text that the prompt is to begin with has no tokens."
        : `The prompt is to begin with the token id ${bad}; the model knows ids below ${vocabularySize}.`,
      "Give ids of the model's own tokenizer.",
    );
  }
  return { table, rows: () => Array.from({ length: count }, (_, i) => initial[i % initial.length]!) };
}

/** Prompt tuning as an adapter_config.json describes it. @throws FileFormatError for a wrong value. */
export function promptFromConfig(
  told: PeftConfig,
  where: string,
  initial: Required<PromptOptions>["initial"] = "random",
): Adapter {
  const config = checkSchema(SCHEMA, told, where);
  const count = config.num_virtual_tokens;
  const heads = (model: Model): readonly string[] => config.modules_to_save ?? model.heads;
  const adapter: Adapter = {
    kind: "prompt",
    virtualTokens: count,
    tensors(model) {
      if (model.image) {
        throw new ConfigError(
          `${model.family} reads images, not texts.`,
          "Use an adapter of its projections, as lora().",
        );
      }
      const rows = initialRows(model, count, initial);
      return [
        { ...normal(EMBEDDINGS, [count, model.hiddenSize], 1), layer: undefined, ...(rows && { initialRows: rows }) },
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
      prompt_tuning_init: "RANDOM",
      task_type: taskType(model),
      inference_mode: true,
    }),
    toFile: (model, tensors) => ({
      config: adapter.peftConfig(model),
      tensors: new Map([...tensors].map(([name, tensor]) => [name === EMBEDDINGS ? name : `${PREFIX}${name}`, tensor])),
    }),
    fromFile: (stored) =>
      new Map([...stored].map(([key, tensor]) => [key.replace(/^base_model\.(?:model\.)?/, ""), tensor])),
  };
  return adapter;
}
