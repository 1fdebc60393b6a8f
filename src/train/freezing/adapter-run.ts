import type { AdapterRun } from "../../adapter/adapter";
import type { Model } from "../../model/model";
import { statisticsNames } from "../tensors/names";
import type { TrainableTensors } from "../tensors/trainable-tensors";

/** A run, as the state of its adapter reads and changes it between steps. */
export function adapterRun(state: TrainableTensors, model: Model, totalSteps: number): AdapterRun {
  const read = (name: string): Promise<Float32Array> => state.tensor(name).read();
  return {
    model,
    totalSteps,
    read,
    isLive: (name) => state.live.has(name),
    write: (name, data) => state.write(name, data),
    async statistics(name) {
      const [mean, uncertainty] = statisticsNames(name);
      return { mean: await read(mean), uncertainty: await read(uncertainty) };
    },
  };
}
