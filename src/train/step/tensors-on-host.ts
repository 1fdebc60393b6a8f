import { elements } from "../../base/shape";
import { readTogether } from "../../gpu/read-together";
import type { TrainableTensors } from "../tensors/trainable-tensors";
import type { GradientParts } from "./gradient-runs";

/** Contents of some tensors, one after the other. Under a budget, which has room for a copy of one tensor, they are read one at a time. */
export function readTensors(
  { options, state }: Pick<GradientParts, "options" | "state">,
  names: readonly string[],
): Promise<Float32Array<ArrayBuffer>> {
  const tensors = names.map((name) => state.tensor(name).lease);
  return readTogether(options.model.engine.device, tensors, options.memory?.budget === undefined ? undefined : 0);
}

/** Overwrites some tensors with what `readTensors` returned for them. */
export function writeTensors(state: TrainableTensors, names: readonly string[], values: Float32Array): void {
  let offset = 0;
  for (const name of names) {
    const tensor = state.tensor(name);
    const size = elements(tensor.shape);
    tensor.write(values.subarray(offset, offset + size));
    offset += size;
  }
}
