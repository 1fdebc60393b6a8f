import type { AdapterRun } from "../../adapter/adapter";
import type { Progress } from "../../freeze/policy";
import type { TrainerOptions } from "../options";
import type { TrainableTensors } from "../tensors/trainable-tensors";
import { statisticsNames } from "../tensors/names";

/** What an adapter sees of a run after a step. */
export function adapterRun(
  state: TrainableTensors,
  { model }: TrainerOptions,
  { step, totalSteps }: Progress,
): AdapterRun {
  const read = (name: string): Promise<Float32Array> => state.tensor(name).read();
  return {
    model: model.model,
    step,
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
