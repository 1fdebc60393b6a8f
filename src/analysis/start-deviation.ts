import type { Batch } from "../data/batch";
import { splitBatch } from "../data/split";
import { Executor } from "../run/executor";
import { plan } from "../tape/plan";
import type { Plan } from "../tape/plan";
import { Recorder } from "../tape/tape";
import type { LayerStack } from "../model/forward";
import { shapeOf } from "../model/model";
import type { BatchSize } from "../model/model";
import type { TrainerOptions } from "../train/options";
import { checkComparable } from "../train/plans/comparison-trace";
import { batchInputs } from "../train/plans/inputs";
import { forwardOf } from "../train/plans/trace";
import { TrainableTensors } from "../train/tensors/trainable-tensors";

/**
 * How far an adapter moves a model before the first step: ||h' - h|| / ||h||, where h is what the head reads of every
 * token that is not padding, without the adapter, and h' the same with it; without dropout. 0 for methods that start from the
 * model as it was loaded, such as LoRA. `meft` starts only near it.
 *
 * It takes the rows of the batch one by one, so that it needs less memory than any training step with them.
 * @param options model and adapter, and the seed and initial values of the run that is to have this start.
 * @throws ConfigError for adapters that change the checkpoint in place or lengthen texts, DataError for rows that do not fit the
 * model, OutOfMemoryError.
 */
export async function startDeviation(
  { model: loaded, adapter, seed = 0, initial }: Pick<TrainerOptions, "model" | "adapter" | "seed" | "initial">,
  batch: Batch,
): Promise<number> {
  checkComparable(adapter);
  const { model, engine } = loaded;
  const planned = bothOutputs({ model: loaded, adapter }, shapeOf({ ...batch, size: 1 }));
  const tensors = await TrainableTensors.create(loaded, adapter, seed, { live: new Map() });
  try {
    if (initial) tensors.restore(initial);
    using executor = new Executor(engine.device);
    await executor.hold([planned]);
    let [difference, size] = [0, 0];
    for (const { batch: row } of splitBatch(batch, 1)) {
      const outputs = await executor.run(planned, tensors, batchInputs(model, row));
      const [adapted, original] = [outputs.get("adapted")!, outputs.get("original")!];
      adapted.forEach((value, i) => {
        if (row.attentionMask[Math.floor(i / model.hiddenSize)] === 0) return;
        difference += (value - original[i]!) ** 2;
        size += original[i]! ** 2;
      });
    }
    return Math.sqrt(difference / size);
  } finally {
    tensors.dispose();
  }
}

/**
 * The plan of both passes, layer by layer in turn, so that no more than one layer of each exists at the same time. Its outputs
 * `adapted` and `original` [size, length, hiddenSize] are what the head reads.
 */
function bothOutputs({ model: loaded, adapter }: Pick<TrainerOptions, "model" | "adapter">, batch: BatchSize): Plan {
  const { model, fragileNorms, engine } = loaded;
  const recorder = new Recorder();
  const options = { model, adapter, batch, isTraining: false, fragileNorms };
  const stackWith = (hooks: typeof adapter | undefined): LayerStack => {
    const forward = forwardOf(recorder, options, hooks);
    return forward.stack(model.embed(forward));
  };
  const [adapted, original] = [stackWith(adapter), stackWith(undefined)];
  for (let index = 0; index < model.layers; index++) {
    adapted.layer(index);
    original.layer(index);
  }
  const outputs = { adapted: adapted.hidden(), original: original.hidden() };
  return plan(recorder, { outputs, limits: engine.device.limits });
}
