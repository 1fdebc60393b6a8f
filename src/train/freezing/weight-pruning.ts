import type { WeightPruningContext } from "../../freeze/policy";
import { gradientName } from "../tensors/names";
import type { TrainableTensors } from "../tensors/trainable-tensors";

/**
 * What a policy that prunes weights sees before the first step.
 * @param computeGradients runs forward and backward on the first batch, and leaves the gradients in `state`.
 */
export async function weightPruningContext(
  state: TrainableTensors,
  computeGradients: () => Promise<void>,
): Promise<WeightPruningContext> {
  const names = [...state.live].filter(([, { layer }]) => typeof layer === "number").map(([name]) => name);
  const readAll = async (keyOf: (name: string) => string): Promise<Map<string, Float32Array>> => {
    const values = new Map<string, Float32Array>();
    for (const name of names) values.set(name, await state.tensor(keyOf(name)).read());
    return values;
  };
  return {
    values: await readAll((name) => name),
    async gradients() {
      await computeGradients();
      return readAll(gradientName);
    },
  };
}
