import * as v from "valibot";
import { ConfigError, DataError } from "../base/errors";
import { embedding } from "../ops/embedding";
import { gelu } from "../ops/gelu";
import { linear } from "../ops/linear";
import { activationOf, GELU_ACTIVATIONS, only, parseConfig } from "./config";
import type { Forward } from "./forward";
import type { FinalNorm } from "./heads";
import { normParameters, projectionParameters } from "./model";
import type { Model, Projection } from "./model";

/** What families call the parts of their heads, and where they differ. */
interface MaskedHead {
  /** A projection to the width of the embeddings. */
  readonly dense: string;
  readonly norm: string;
  /** The projection to the vocabulary, whose weight is the embeddings' table. */
  readonly decoder: string;
  /** The tensor that is added to the logits. */
  readonly bias: string;
  /** Key of config.json that names the activation, and its default. Default GELU, whatever config.json says. */
  readonly activation?: readonly [key: string, fallback: string];
  /** The norms' epsilon, or the key of config.json that has it. Default `layer_norm_eps`. */
  readonly eps?: number | "norm_eps";
  /** The model's last norm. Default none. */
  readonly before?: string;
  /** Whether the family's own heads have the projection and the norm, so that its models bring their tensors. Default false. */
  readonly isShared?: boolean;
}

const LM_HEAD: MaskedHead = {
  dense: "lm_head.dense",
  norm: "lm_head.layer_norm",
  decoder: "lm_head.decoder",
  bias: "lm_head.bias",
};

const HEADS: Readonly<Record<string, MaskedHead>> = {
  bert: {
    dense: "cls.predictions.transform.dense",
    norm: "cls.predictions.transform.LayerNorm",
    decoder: "cls.predictions.decoder",
    bias: "cls.predictions.bias",
    activation: ["hidden_act", "gelu"],
  },
  roberta: LM_HEAD,
  "xlm-roberta": LM_HEAD,
  mpnet: LM_HEAD,
  distilbert: {
    dense: "vocab_transform",
    norm: "vocab_layer_norm",
    decoder: "vocab_projector",
    bias: "vocab_projector.bias",
    activation: ["activation", "gelu"],
    eps: 1e-12,
  },
  albert: {
    dense: "predictions.dense",
    norm: "predictions.LayerNorm",
    decoder: "predictions.decoder",
    bias: "predictions.bias",
    activation: ["hidden_act", "gelu_new"],
  },
  electra: {
    dense: "generator_predictions.dense",
    norm: "generator_predictions.LayerNorm",
    decoder: "generator_lm_head",
    bias: "generator_lm_head.bias",
  },
  modernbert: {
    dense: "head.dense",
    norm: "head.norm",
    decoder: "decoder",
    bias: "decoder.bias",
    eps: "norm_eps",
    before: "model.final_norm",
    isShared: true,
  },
};

const EPS = v.optional(v.number());
const SCHEMA = v.object({
  tie_word_embeddings: only(true),
  decoder_bias: only(true),
  layer_norm_eps: EPS,
  norm_eps: EPS,
});

/**
 * A model for masked language modelling: of the tokens that a batch predicts, and of no others, a projection, GELU, a norm, and the
 * projection to the vocabulary that shares the table of the embeddings. A step has so few logits that they are kept.
 * @param tagger the family's model of the same configuration for token classification, whose head is replaced.
 * @throws ConfigError for a family without such a head here, and for a table that is not shared.
 */
export function maskedLanguageModel(tagger: Model, config: Readonly<Record<string, unknown>>): Model {
  const { family, hiddenSize, wordEmbeddings: table } = tagger;
  const head = Object.hasOwn(HEADS, family) ? HEADS[family] : undefined;
  if (!head || table === undefined) {
    throw new ConfigError(
      `Masked language modelling is not supported for ${family}.`,
      `It is for ${Object.keys(HEADS).join(", ")}.`,
    );
  }
  const c = parseConfig(SCHEMA, config);
  const { dense, norm, decoder, bias, activation: [key, fallback] = [], eps = "layer_norm_eps" } = head;
  const named = key === undefined ? undefined : config[key];
  const approximation = activationOf(typeof named === "string" ? named : (fallback ?? "gelu"), GELU_ACTIVATIONS);
  const epsilon = typeof eps === "number" ? eps : (c[eps] ?? (eps === "norm_eps" ? 1e-5 : 1e-12));
  const width = tagger.parameters.find(({ name }) => name === table)!.shape[1]!;
  const inner: Projection = {
    name: dense,
    in: hiddenSize,
    out: width,
    layout: "out_in",
    bias: true,
    layer: undefined,
    role: undefined,
  };
  const isKept = (name: string): boolean => !`${name}.`.startsWith("classifier.");
  const tiedOutput = { module: decoder, table };
  const layerNorm =
    (name: string): FinalNorm =>
    (forward, x) =>
      forward.layerNorm(name, x, epsilon);
  const before = head.before === undefined ? undefined : layerNorm(head.before);
  return {
    ...tagger,
    config,
    task: "masked_lm",
    classes: tagger.vocabularySize,
    heads: [],
    normsOfHead: [norm, bias.slice(0, -".bias".length)],
    projections: [...tagger.projections.filter(({ name }) => isKept(name)), ...(head.isShared ? [] : [inner])],
    parameters: [
      ...tagger.parameters.filter(({ name }) => isKept(name)),
      ...(head.isShared ? [] : [...projectionParameters(inner), ...normParameters(norm, width, undefined)]),
      { name: bias, shape: [tagger.vocabularySize], layer: undefined },
    ],
    aliases: (name) => (name === bias ? [bias, `${decoder}.bias`] : tagger.aliases(name)),
    tiedOutput,
    head(forward, x) {
      const { recorder } = forward;
      const tokens = recorder.labelled(dense, () =>
        recorder.apply(embedding, { table: x, ids: predictedTokens(forward) }, {}),
      );
      const wide = forward.linear(dense, before ? before(forward, tokens) : tokens);
      const active = recorder.labelled(dense, () => recorder.apply(gelu, { x: wide }, { approximation }));
      const inputs = {
        x: layerNorm(norm)(forward, active),
        w: forward.tiedWeight(tiedOutput),
        bias: forward.parameter(bias),
      };
      return recorder.labelled(decoder, () => recorder.apply(linear, inputs, { layout: "out_in" }));
    },
  };
}

/** Index of each token that is predicted among all tokens of the batch [size, targetLength]. */
function predictedTokens({ recorder, model, batch: { size, targetLength } }: Forward) {
  if (targetLength !== undefined) return recorder.input("predicted_tokens", [size, targetLength], "i32");
  throw new DataError(
    `A batch without masked tokens does not fit this ${model.family} model for masked language modelling.`,
    "Make batches with MaskedBatches of safetape/data, or load the model with another task.",
  );
}
