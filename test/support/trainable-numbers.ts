import type { Adapter, Model } from "safetape";
import { parametersOutsideHead, trainableSpecs } from "../../src/train/tensors/specs";

/** Trainable numbers of an adapter outside a model's head, in tensors whose name matches. */
export function trainableNumbers(model: Model, adapter: Adapter, tensors = /./): number {
  const specs = [...trainableSpecs(model, adapter)].filter(([name]) => tensors.test(name));
  return parametersOutsideHead(model, new Map(specs));
}
