import * as v from "valibot";
import { ConfigError } from "../base/errors";
import type { PeftConfig } from "../io/peft";
import { bareName } from "../io/wrappers";
import { entryOf } from "../io/safetensors";
import type { FloatTensor } from "../io/safetensors";
import type { Forward } from "../model/forward";
import type { Model } from "../model/model";
import { linear } from "../ops/linear";
import type { Value } from "../tape/tape";
import type { Adapter, Tensors } from "./adapter";
import { uniform } from "./initial";
import type { NewTensor } from "./initial";
import { savedModuleTensors, TARGET_KEYS, taskType } from "./targets";

export const COUNT = v.pipe(v.number(), v.safeInteger(), v.minValue(1));

/** Keys of adapter_config.json of the methods that put something before each text. */
export const PROMPT_KEYS = {
  num_virtual_tokens: COUNT,
  num_transformer_submodules: v.optional(v.nullable(v.picklist([1, 2])), null),
  modules_to_save: TARGET_KEYS.modules_to_save,
} as const;

export interface PromptConfig {
  readonly peft_type: string;
  readonly num_virtual_tokens: number;
  readonly num_transformer_submodules: 1 | 2 | null;
  readonly modules_to_save: string[] | null;
}

/** The one tensor that PEFT saves of such a method: what is put before texts in the end, whatever it was made of. */
export const EMBEDDINGS = "prompt_embeddings";
/** Prefix of the other keys: PEFT wraps the complete model here, not its modules, so that there is no second `model.`. */
const PREFIX = "base_model.";

/** What a method's files hold, beside the modules that are saved completely. */
export interface PromptParts {
  /** Keys of adapter_config.json, beside those that all methods have. */
  config(model: Model): PeftConfig;
  tensors(model: Model): ReturnType<Adapter["tensors"]>;
  /** The tensor that is saved, made of the method's own. */
  saved(model: Model, tensors: Tensors): FloatTensor;
  /** The method's tensors, from the one that was saved. @throws ShapeError for that of another model. */
  loaded(model: Model, saved: FloatTensor, where: string): Tensors;
}

/** The files of a method that puts something before each text, and its saved modules. */
export function promptFiles(
  config: PromptConfig,
  parts: PromptParts,
): Required<Pick<Adapter, "tensors" | "baseTensors" | "peftConfig" | "toFile" | "fromFile">> {
  const heads = (model: Model): readonly string[] => config.modules_to_save ?? model.heads;
  const peftConfig = (model: Model): PeftConfig => ({
    num_virtual_tokens: config.num_virtual_tokens,
    num_transformer_submodules: 1,
    modules_to_save: [...heads(model)],
    num_layers: model.encoderDecoder?.encoderLayers ?? model.layers,
    task_type: taskType(model),
    inference_mode: true,
    ...parts.config(model),
  });
  return {
    tensors: (model) => parts.tensors(model),
    baseTensors: (model) => savedModuleTensors(model, heads(model)),
    peftConfig,
    toFile(model, tensors) {
      const own = new Set(parts.tensors(model).map(({ name }) => name));
      const others = [...tensors].filter(([name]) => !own.has(name));
      return {
        config: peftConfig(model),
        tensors: new Map([
          [EMBEDDINGS, parts.saved(model, tensors)],
          ...others.map(([name, tensor]) => [`${PREFIX}${name}`, tensor] as const),
        ]),
      };
    },
    fromFile(stored, model, where) {
      if (config.num_transformer_submodules === 2 && !model.encoderDecoder) {
        throw new ConfigError(
          `num_transformer_submodules is 2 in ${where}, but ${model.family} is one transformer.`,
          "Load the encoder-decoder that the adapter was trained on.",
        );
      }
      const name = (key: string): string => bareName(key).replace(/^base_model\.(?:model\.)?/, "");
      const named = new Map([...stored].map(([key, tensor]) => [name(key), tensor]));
      const saved = entryOf(named, EMBEDDINGS, where);
      named.delete(EMBEDDINGS);
      return new Map([...named, ...parts.loaded(model, saved, where)]);
    },
  };
}

/** @throws ConfigError for a model of images. */
export function checkReadsTexts({ family, image }: Model): void {
  if (!image) return;
  throw new ConfigError(`${family} reads images, not texts.`, "Use an adapter of its projections, such as lora().");
}

/** Width of the embeddings of tokens: ELECTRA's and ALBERT's may be narrower than its layers. */
export const embeddingWidth = ({ parameters, wordEmbeddings, hiddenSize }: Model): number =>
  parameters.find(({ name }) => name === wordEmbeddings)?.shape[1] ?? hiddenSize;

/** Weight [out, in] and bias [out] of a linear layer, as PyTorch initialises them. */
export const layerTensors = (name: string, from: number, to: number): NewTensor[] => [
  uniform(`${name}.weight`, [to, from], 1 / Math.sqrt(from)),
  uniform(`${name}.bias`, [to], 1 / Math.sqrt(from)),
];

/** Records a linear layer of x [n, in]: [n, out]. */
export function recordLayer({ recorder }: Forward, name: string, x: Value, to: number): Value {
  const w = recorder.parameter(`${name}.weight`, [to, x.shape.at(-1)!]);
  const bias = recorder.parameter(`${name}.bias`, [to]);
  return recorder.labelled(name, () => recorder.apply(linear, { x, w, bias }, { layout: "out_in" }));
}

/** A linear layer of x [n, in] on the host, with sums in float64. */
export function computeLayer(
  tensors: Tensors,
  name: string,
  x: FloatTensor,
  activation: (value: number) => number = (value) => value,
): FloatTensor {
  const [weight, bias] = [`${name}.weight`, `${name}.bias`].map((each) => entryOf(tensors, each, "the adapter"));
  const [to = 0, from = 0] = weight!.shape;
  const [rows = 0] = x.shape;
  const data = new Float32Array(rows * to);
  for (let row = 0; row < rows; row++) {
    for (let out = 0; out < to; out++) {
      let sum = bias!.data[out]!;
      for (let i = 0; i < from; i++) sum += x.data[row * from + i]! * weight!.data[out * from + i]!;
      data[row * to + out] = activation(sum);
    }
  }
  return { shape: [rows, to], data };
}
