import { IGNORED_LABEL } from "../../data/sample";
import type { Forward } from "../../model/forward";
import { LOGIT_BYTES } from "../../ops/linear_cross_entropy";
import { linearTokenCrossEntropy } from "../../ops/linear_token_cross_entropy";
import { tokenCrossEntropy } from "../../ops/token_cross_entropy";
import type { Value } from "../../tape/tape";
import type { ObjectivePass } from "../options";

/**
 * The loss of each token of a language model [size * length]: the negative log-probability of the next one, 0 where there is no
 * label. Logits are in memory only where the last projection learns.
 * @param smoothing label smoothing, as in torch.nn.CrossEntropyLoss.
 */
export function tokenLosses(forward: Forward, pass: ObjectivePass, smoothing = 0): Value {
  const { recorder, batch, length } = forward;
  const { logits, output, differentiable } = pass;
  const labels = recorder.input("labels", [batch.size * length], "i32");
  const attributes = { ignored: IGNORED_LABEL, smoothing };
  if (!output) return recorder.apply(tokenCrossEntropy, { x: logits, labels }, attributes);
  const { x, w, bias, cap } = output;
  return recorder.apply(
    linearTokenCrossEntropy,
    { x, w, bias, labels },
    { ...attributes, ...(cap !== undefined && { cap }), differentiable, logitBytes: LOGIT_BYTES },
  );
}
