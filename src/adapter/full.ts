import type { Adapter } from "./adapter";

/** Full tuning: every tensor of the checkpoint is trained in place. The loaded model changes; save it with `saveModel`. */
export function full(): Adapter {
  return {
    kind: "full",
    trainsInPlace: true,
    tensors: () => [],
    baseTensors: (model) => model.parameters.filter(({ isBuffer }) => !isBuffer).map(({ name }) => name),
    peftConfig: () => ({ peft_type: "SAFETAPE_FULL" }),
  };
}
