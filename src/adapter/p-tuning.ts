import * as v from "valibot";
import { ConfigError } from "../base/errors";
import { checkSchema } from "../io/json";
import type { PeftConfig } from "../io/peft";
import { entryOf } from "../io/safetensors";
import type { Forward } from "../model/forward";
import { relu } from "../ops/relu";
import type { Value } from "../tape/tape";
import type { Adapter } from "./adapter";
import { normal } from "./initial";
import { promptAdapter, withPrompt } from "./prompt";
import {
  checkReadsTexts,
  computeLayer,
  COUNT,
  EMBEDDINGS,
  embeddingWidth,
  layerTensors,
  PROMPT_KEYS,
  promptFiles,
  recordLayer,
} from "./prompt-file";

export interface PTuningOptions {
  /** Virtual tokens before each text. Default 20. */
  readonly tokens?: number;
  /** Width between the layers of the network. Default that of embeddings. */
  readonly encoderSize?: number;
  /** The network: "mlp", PEFT's `encoder_reparameterization_type` MLP. Its LSTM is not implemented. Default "mlp". */
  readonly encoder?: "mlp";
  /** Modules of which all tensors are trained as well. Default the task's head. */
  readonly modulesToSave?: readonly string[];
}

/** Keys of the network that made what a file has. */
const ENCODER_KEYS = {
  encoder_reparameterization_type: v.optional(v.picklist(["MLP", "LSTM"]), "MLP"),
  encoder_hidden_size: v.optional(v.nullable(COUNT), null),
  encoder_num_layers: v.optional(COUNT, 2),
  encoder_dropout: v.optional(v.number(), 0),
} as const;
const ENCODER = v.object({ peft_type: v.literal("P_TUNING"), ...ENCODER_KEYS });
const SCHEMA = v.object({ ...ENCODER.entries, ...PROMPT_KEYS });

const EMBEDDING = "prompt_encoder.embedding";
/** The network's layers, with ReLU behind all but the last. */
const LAYERS = [0, 2, 4].map((layer) => `prompt_encoder.mlp_head.${layer}`);
const isActivated = (layer: number): boolean => layer < LAYERS.length - 1;

/**
 * P-tuning (Liu et al. 2021): embeddings [n, d] of n virtual tokens, and a network of three layers with ReLU between them, which makes
 * of them what is put before each text. What it makes is saved, without the network.
 *
 * Keeps what prompt tuning keeps, and the network's few rows.
 * @throws ConfigError for a model of images, and for an LSTM.
 */
export function pTuning({ tokens = 20, encoderSize, encoder = "mlp", modulesToSave }: PTuningOptions = {}): Adapter {
  // For the compiler there is no other string, but JavaScript and JSON can contain one.
  const name: string = encoder;
  if (name !== "mlp") {
    throw new ConfigError(`pTuning: the encoder ${name} is not implemented.`, 'Give "mlp", as PEFT does by default.');
  }
  const keys = {
    peft_type: "P_TUNING",
    num_virtual_tokens: tokens,
    modules_to_save: modulesToSave && [...modulesToSave],
    encoder_hidden_size: encoderSize,
  };
  const config = checkSchema(SCHEMA, keys, "the P-tuning configuration");
  const made = pTuningFromConfig(config, "the P-tuning configuration");
  /** Widths of what enters the layers, and of what leaves the last one. */
  const widths = (width: number): number[] => {
    const between = config.encoder_hidden_size ?? width;
    return [width, between, between, width];
  };
  return {
    ...made,
    ...promptFiles(config, {
      config: (model) => made.peftConfig(model),
      tensors(model) {
        checkReadsTexts(model);
        const sizes = widths(embeddingWidth(model));
        const network = LAYERS.flatMap((name, i) => layerTensors(name, sizes[i]!, sizes[i + 1]!));
        const embedding = normal(EMBEDDING, [config.num_virtual_tokens, sizes[0]!], 1);
        return [embedding, ...network].map((tensor) => ({ ...tensor, layer: "below" }));
      },
      saved: (_model, tensors) =>
        LAYERS.reduce(
          (x, name, i) => computeLayer(tensors, name, x, isActivated(i) ? (value) => Math.max(0, value) : undefined),
          entryOf(tensors, EMBEDDING, "the adapter"),
        ),
      loaded: (_model, saved) => new Map([[EMBEDDINGS, saved]]),
    }),
    embedded(forward: Forward, x: Value) {
      const { recorder } = forward;
      const sizes = widths(x.shape.at(-1)!);
      const prompt = LAYERS.reduce(
        (rows, name, i) => {
          const y = recordLayer(forward, name, rows, sizes[i + 1]!);
          return isActivated(i) ? recorder.apply(relu, { x: y }, {}) : y;
        },
        recorder.parameter(EMBEDDING, [config.num_virtual_tokens, sizes[0]!]),
      );
      return withPrompt(forward, prompt, x);
    },
  };
}

/** P-tuning by its adapter_config.json: the embeddings that a network made. @throws FileFormatError for a wrong value. */
export function pTuningFromConfig(value: PeftConfig, where: string): Adapter {
  return promptAdapter("p_tuning", checkSchema(SCHEMA, value, where), checkSchema(ENCODER, value, where));
}
