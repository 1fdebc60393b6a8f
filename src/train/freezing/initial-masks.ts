import type { WeightPruningPolicyState } from "../../freeze/policy";
import { gradientName } from "../tensors/names";
import type { TrainableTensors } from "../tensors/trainable-tensors";

export interface PruneParts {
  readonly state: TrainableTensors;
  /** Runs forward and backward on the first batch. */
  readonly gradients: () => Promise<void>;
}

/** Asks a policy for its masks before the first step, and applies them. */
export async function prune(policy: WeightPruningPolicyState, { state, gradients }: PruneParts): Promise<void> {
  const names = [...state.live].filter(([, { layer }]) => layer !== undefined).map(([name]) => name);
  const read = async (of: (name: string) => string): Promise<Map<string, Float32Array>> => {
    const values = new Map<string, Float32Array>();
    for (const name of names) values.set(name, await state.tensor(of(name)).read());
    return values;
  };
  const masks = await policy.masks({
    values: await read((name) => name),
    gradients: async () => {
      await gradients();
      return read(gradientName);
    },
  });
  await state.prune(masks);
}
