import { checkKeys } from "../../base/option-keys";
import { ConfigError, DataError } from "../../base/errors";
import type { Batch } from "../../data/batch";
import { IGNORED_LABEL } from "../../data/sample";
import { mul } from "../../ops/mul";
import { sum } from "../../ops/sum";
import type { Objective } from "../options";
import { classLabels } from "./inputs";
import { tokenLosses } from "./token-losses";
import { LABEL_WEIGHTS } from "./trace";

export interface WeightedTokenOptions {
  /** As in torch.nn.CrossEntropyLoss, in training; evaluation has none, as of the task's loss. Default 0. */
  readonly labelSmoothing?: number;
}

/**
 * The loss of a causal language model whose tokens have weights (`weights` of batches and samples, `weight` of a chat's messages), for a
 * trainer's `loss`: sum(w_i l_i) / sum(w_i) over the labels of a step, as torch.nn.CrossEntropyLoss takes the mean with weights of
 * classes. So weights are relations: 0.5 everywhere is the mean without weights. Batches without weights count each label as 1, and
 * a label of weight 0 as one that is ignored. `Trainer.evaluate` counts the weights, and shows the loss of each token [size * length].
 * @throws ConfigError for a label smoothing out of range; in a trainer for a model of another task.
 */
export function weightedTokens(options: WeightedTokenOptions = {}): Objective {
  checkKeys("weightedTokens", options, ["labelSmoothing"]);
  const { labelSmoothing = 0 } = options;
  if (!(labelSmoothing >= 0 && labelSmoothing < 1)) {
    throw new ConfigError(`The label smoothing is ${labelSmoothing}.`, "Give a share below 1.");
  }
  return {
    name: "weighted_tokens",
    settings: { labelSmoothing },
    rowsTogether: 1,
    check({ model: { family, task } }) {
      if (task === "causal_lm") return;
      throw new ConfigError(
        `Tokens have weights in causal language models, and this ${family} model is for ${task}.`,
        "Leave the weights out, or give the messages 0 or 1.",
      );
    },
    count: (batch, virtualTokens) => countedWeights(batch, virtualTokens).reduce((total, weight) => total + weight, 0),
    inputs: (batch, normalizer, virtualTokens) => ({
      [LABEL_WEIGHTS]: Float32Array.from(countedWeights(batch, virtualTokens), (weight) => weight * normalizer),
    }),
    record(forward, pass) {
      const { recorder, batch, length } = forward;
      const losses = tokenLosses(forward, pass, pass.differentiable ? labelSmoothing : 0);
      const weights = recorder.input(LABEL_WEIGHTS, [batch.size * length]);
      const weighted = recorder.apply(mul, { a: losses, b: weights }, {});
      const loss = recorder.apply(sum, { x: weighted }, { axes: [0], keepDims: true, mean: false });
      return { loss, logits: losses };
    },
  };
}

/**
 * The weight of each label as the loss reads them, in float64; 0 where nothing is predicted.
 * @throws DataError for a weight below 0, infinite or NaN.
 */
function countedWeights(batch: Batch, virtualTokens?: number): Float64Array {
  const indices = batch.labels.map((label, at) => (label === IGNORED_LABEL ? IGNORED_LABEL : at));
  const sources = classLabels({ task: "causal_lm" }, { ...batch, labels: indices }, virtualTokens);
  const weights = Float64Array.from(sources, (at) => (at === IGNORED_LABEL ? 0 : (batch.weights?.[at] ?? 1)));
  const wrong = weights.find((weight) => !(weight >= 0 && weight < Infinity));
  if (wrong === undefined) return weights;
  throw new DataError(`A token has the weight ${wrong}`, "give numbers from 0, of which only their relations count");
}
