import { ConfigError } from "../base/errors";
import { IGNORED_LABEL } from "../data/sample";
import type { Forward } from "../model/forward";
import type { Model } from "../model/model";
import { LOGIT_BYTES } from "../ops/linear_cross_entropy";
import { linearTokenCrossEntropy } from "../ops/linear_token_cross_entropy";
import { reshape } from "../ops/reshape";
import { sum } from "../ops/sum";
import { tokenCrossEntropy } from "../ops/token_cross_entropy";
import type { Value } from "../tape/tape";
import type { ObjectivePass } from "../train/options";

/**
 * The negative log-probability of each row's answer [size]: the sum over its tokens, in f32. Logits are in memory only where the last
 * projection learns.
 */
export function answerLosses(forward: Forward, { logits, output, differentiable }: ObjectivePass): Value {
  const { recorder, batch, length } = forward;
  const labels = recorder.input("labels", [batch.size * length], "i32");
  const attributes = { ignored: IGNORED_LABEL, smoothing: 0 };
  const losses = output
    ? recorder.apply(
        linearTokenCrossEntropy,
        { x: output.x, w: output.w, bias: output.bias, labels },
        {
          ...attributes,
          ...(output.cap !== undefined && { cap: output.cap }),
          differentiable,
          logitBytes: LOGIT_BYTES,
        },
      )
    : recorder.apply(tokenCrossEntropy, { x: logits, labels }, attributes);
  const byRow = recorder.apply(reshape, { x: losses }, { shape: [batch.size, length] });
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
