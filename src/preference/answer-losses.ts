import { ConfigError } from "../base/errors";
import type { Forward } from "../model/forward";
import type { Model } from "../model/model";
import { reshape } from "../ops/reshape";
import { sum } from "../ops/sum";
import type { Value } from "../tape/tape";
import type { ObjectivePass } from "../train/options";
import { tokenLosses } from "../train/plans/token-losses";

/**
 * The negative log-probability of each row's answer [size]: the sum over its tokens, in f32. Logits are in memory only where the last
 * projection learns.
 */
export function answerLosses(forward: Forward, pass: ObjectivePass): Value {
  const { recorder, batch, length } = forward;
  const byRow = recorder.apply(reshape, { x: tokenLosses(forward, pass) }, { shape: [batch.size, length] });
  return recorder.apply(sum, { x: byRow }, { axes: [1], keepDims: false, mean: false });
}

/** @throws ConfigError for a model that does not continue texts. */
export function checkWritesAnswers({ family, task }: Model, what: string): void {
  if (task === "causal_lm") return;
  throw new ConfigError(
    `${what} compares answers that a text goes on with, and this ${family} model is for ${task}.`,
    'Use a causal language model: loadModel(engine, directory, { task: "causal_lm" }).',
  );
}
