import { checkKeys } from "../base/option-keys";
import { ConfigError, DataError } from "../base/errors";
import type { Batch } from "../data/batch";
import { IGNORED_LABEL } from "../data/sample";
import type { Forward } from "../model/forward";
import { add } from "../ops/add";
import { binary } from "../ops/binary";
import { crossEntropy } from "../ops/cross_entropy";
import { mul } from "../ops/mul";
import { relu } from "../ops/relu";
import { reshape } from "../ops/reshape";
import { scale } from "../ops/scale";
import { sum } from "../ops/sum";
import type { Value } from "../tape/tape";
import type { Objective } from "../train/options";
import { answerLosses, checkWritesAnswers } from "./answer-losses";

/** Losses of pairs of answers: DPO's own, IPO's and SLiC's hinge. */
export const DPO_LOSSES = ["sigmoid", "ipo", "hinge"] as const;

export interface DpoOptions {
  /** How much a change of log-probabilities counts: the larger, the closer the model stays to the reference. Default 0.1. */
  readonly beta?: number;
  /**
   * What is made of the margin m between the rewards of the chosen and the rejected answer: -log sigmoid(m) (Rafailov et al. 2023, eq. 7);
   * (m / beta - 1 / (2 beta))^2 with means over tokens in the rewards (Azar et al. 2023, eq. 17); max(0, 1 - m) (Liu et al. 2023). Default sigmoid.
   */
  readonly loss?: (typeof DPO_LOSSES)[number];
  /** Share of pairs that are taken to be labelled the wrong way round (Mitchell 2023), of the sigmoid loss. Default 0. */
  readonly labelSmoothing?: number;
}

/** Inputs of the trace. */
const REFERENCE = "reference";
const SHARES = "answer shares";
const PAIR_LABELS = "pair labels";
const PAIR_WEIGHTS = "pair weights";

/**
 * Direct preference optimisation, for a trainer's `loss`: a pair's chosen answer should gain more of the model's log-probability than the
 * rejected one, each compared with the reference. A reward is beta (log p(answer) - log p_reference(answer)), sums over the answer's
 * tokens. The batches are those of `PreferenceBatches`, with the reference's log-probabilities in them.
 * @throws ConfigError for an option out of range.
 */
export function dpo(options: DpoOptions = {}): Objective {
  checkKeys("dpo", options, ["beta", "loss", "labelSmoothing"]);
  const { beta = 0.1, loss: kind = "sigmoid", labelSmoothing = 0 } = options;
  if (!(beta > 0 && Number.isFinite(beta))) {
    throw new ConfigError(`The beta of DPO is ${beta}.`, "Give a number above 0, such as 0.1.");
  }
  if (!DPO_LOSSES.includes(kind)) {
    throw new ConfigError(`The loss of DPO is ${kind}.`, `Give ${DPO_LOSSES.join(", ")}.`);
  }
  if (!(labelSmoothing >= 0 && labelSmoothing < 0.5)) {
    throw new ConfigError(`The label smoothing of DPO is ${labelSmoothing}.`, "Give a share below 0.5.");
  }
  if (labelSmoothing > 0 && kind !== "sigmoid") {
    throw new ConfigError(`The ${kind} loss has no label smoothing.`, "Leave it out, or take the sigmoid loss.");
  }
  const takesMeans = kind === "ipo";
  return {
    name: "dpo",
    settings: { beta, loss: kind, labelSmoothing },
    rowsTogether: 2,
    check({ model, adapter, memory }) {
      checkWritesAnswers(model, "DPO");
      if (adapter.stack) {
        throw new ConfigError(
          `${adapter.kind} carries two streams: the run would not begin at the reference, and rewards would not begin at 0.`,
          "Use an adapter that begins as the model, for example lora().",
        );
      }
      const { microBatch } = memory ?? {};
      if (typeof microBatch === "number" && microBatch % 2 !== 0) {
        throw new ConfigError(
          `memory.microBatch is ${microBatch}, and a pair of answers is two rows.`,
          "Give an even number of rows.",
        );
      }
    },
    count: pairsOf,
    inputs(batch, normalizer) {
      const pairs = pairsOf(batch);
      const isPair = (pair: number): boolean => pair < pairs;
      const shares = takesMeans ? answerShares(batch) : undefined;
      return {
        [REFERENCE]: batch.reference!.map((value, row) => value * (shares?.[row] ?? 1)),
        ...(shares && { [SHARES]: shares }),
        [PAIR_LABELS]: Int32Array.from({ length: batch.size / 2 }, (_, i) => (isPair(i) ? 0 : IGNORED_LABEL)),
        [PAIR_WEIGHTS]: Float32Array.from({ length: batch.size / 2 }, (_, i) => (isPair(i) ? normalizer : 0)),
      };
    },
    record(forward, pass) {
      const { recorder, batch } = forward;
      const summed = answerLosses(forward, pass);
      const losses = takesMeans
        ? recorder.apply(mul, { a: summed, b: recorder.input(SHARES, [batch.size]) }, {})
        : summed;
      // A loss is a negative log-probability, so that this is log p_reference - log p.
      const ratios = recorder.apply(add, { a: losses, b: recorder.input(REFERENCE, [batch.size]) }, {});
      const scaled = recorder.apply(scale, { x: ratios }, { factor: -beta });
      const rewards = recorder.apply(reshape, { x: scaled }, { shape: [batch.size / 2, 2] });
      return { loss: LOSSES[kind](forward, rewards, { beta, labelSmoothing }), logits: rewards };
    },
  };
}

type PairLoss = (
  forward: Forward,
  rewards: Value,
  options: { readonly beta: number; readonly labelSmoothing: number },
) => Value;

/** The mean loss [1] of rewards [pairs, 2]. */
const LOSSES: Readonly<Record<(typeof DPO_LOSSES)[number], PairLoss>> = {
  // -log sigmoid(a - b) is the cross-entropy of the logits (a, b) for the first of them, stable and smooth wherever the rewards are. A
  // swapped label in a share e of pairs is smoothing by 2 e, half of which stays with the label.
  sigmoid({ recorder }, rewards, { labelSmoothing }) {
    const labels = recorder.input(PAIR_LABELS, [rewards.shape[0]!], "i32");
    const normalizer = recorder.input("normalizer", [1]);
    const attributes = { ignored: IGNORED_LABEL, smoothing: 2 * labelSmoothing };
    return recorder.apply(crossEntropy, { x: rewards, labels, normalizer }, attributes);
  },
  ipo(forward, rewards, { beta }) {
    const { recorder } = forward;
    const pairs = rewards.shape[0]!;
    const targets = recorder.constant(new Float32Array(pairs).fill(0.5), [pairs]);
    const difference = recorder.apply(binary, { a: margins(forward, rewards), b: targets }, { kind: "sub" });
    const squares = recorder.apply(mul, { a: difference, b: difference }, {});
    return recorder.apply(scale, { x: weightedSum(forward, squares) }, { factor: 1 / beta ** 2 });
  },
  hinge(forward, rewards) {
    const { recorder } = forward;
    const ones = recorder.constant(new Float32Array(rewards.shape[0]!).fill(1), [rewards.shape[0]!]);
    const short = recorder.apply(binary, { a: ones, b: margins(forward, rewards) }, { kind: "sub" });
    return weightedSum(forward, recorder.apply(relu, { x: short }, {}));
  },
};

/** Reward of the chosen answer minus that of the rejected one [pairs]. */
function margins({ recorder }: Forward, rewards: Value): Value {
  const signs = Float32Array.from({ length: 2 * rewards.shape[0]! }, (_, i) => (i % 2 === 0 ? 1 : -1));
  const signed = recorder.apply(mul, { a: rewards, b: recorder.constant(signs, rewards.shape) }, {});
  return recorder.apply(sum, { x: signed }, { axes: [1], keepDims: false, mean: false });
}

/** The mean over the step's pairs, [1], of numbers [pairs]. */
function weightedSum({ recorder }: Forward, x: Value): Value {
  const weighted = recorder.apply(mul, { a: x, b: recorder.input(PAIR_WEIGHTS, x.shape) }, {});
  return recorder.apply(sum, { x: weighted }, { axes: [0], keepDims: true, mean: false });
}

/** Pairs of a batch that are not padding. @throws DataError for a batch without a reference. */
function pairsOf({ rows, size, reference }: Batch): number {
  if (reference && rows % 2 === 0 && size % 2 === 0) return rows / 2;
  throw new DataError(
    reference
      ? `A batch of pairs of answers has ${rows} of ${size} rows`
      : "A batch has no reference for pairs of answers",
    "make batches by PreferenceBatches, of pairs from withReference",
  );
}

/** 1 / (tokens of its answer) for each row of a batch [size]. The first token of a row is not predicted. */
function answerShares({ size, length, labels }: Batch): Float32Array {
  return Float32Array.from({ length: size }, (_, row) => {
    const own = Array.from(labels.subarray(row * length + 1, (row + 1) * length));
    return 1 / Math.max(1, own.filter((label) => label !== IGNORED_LABEL).length);
  });
}
