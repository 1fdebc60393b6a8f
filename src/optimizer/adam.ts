import { adam as adamOp } from "../ops/adam";
import { adamW } from "./adamw";
import type { OptimizerOptions } from "./adamw";
import type { Optimizer } from "./optimizer";

/**
 * Adam as in PyTorch (Kingma and Ba 2015): weight decay is an L2 penalty, whose gradient goes through the moments. Its options
 * are those of AdamW.
 * @throws ConfigError as `adamW`.
 */
export function adam(options: OptimizerOptions = {}): Optimizer {
  return {
    ...adamW(options),
    name: "adam",
    update(recorder, { state, ...tensors }, { weightDecay }) {
      recorder.record(adamOp, { ...tensors, m: state["first moment"]!, v: state["second moment"]! }, { weightDecay });
    },
  };
}
