import { lora } from "../../src/adapter/lora";
import { Random } from "../../src/base/random";
import { Batches } from "../../src/data/batches";
import type { Engine } from "../../src/engine";
import { fixed } from "../../src/freeze/fixed";
import type { Directory } from "../../src/io/directory";
import { initialiseModel } from "../../src/io/load-model";
import { Trainer } from "../../src/train/trainer";

export const SEED = 7;
const CONFIG = {
  model_type: "bert",
  vocab_size: 100,
  hidden_size: 16,
  num_hidden_layers: 3,
  num_attention_heads: 2,
  intermediate_size: 32,
  max_position_embeddings: 32,
  num_labels: 2,
};

/** A run of many steps: a checkpoint ends each of its 20 legs, and the model is evaluated twice in a leg. */
export interface LongRun {
  readonly steps: number;
  /** Steps from one checkpoint to the next. */
  readonly leg: number;
  /** Steps from one evaluation to the next. */
  readonly every: number;
}

export const longRun = (steps: number): LongRun => {
  return { steps, leg: Math.max(1, steps / 20), every: Math.max(1, steps / 40) };
};

function data(seed: number): Batches {
  const random = new Random(seed);
  const samples = Array.from({ length: 64 }, (_, i) => {
    return { ids: Int32Array.from({ length: 4 + random.below(28) }, () => 1 + random.below(99)), label: i % 2 };
  });
  return new Batches(samples, { size: 4, maxLength: 32, multiple: 8, labels: "class" });
}

/** Freezes the lowest layer after a quarter of the run and the next one after half of it. */
const policy = ({ steps }: LongRun) =>
  fixed([0, 1].map((layer) => ({ beforeStep: Math.round(((layer + 1) * steps) / 4), tensors: [`layer.${layer}.`] })));

/**
 * Trains a small model with freezes, varying lengths, evaluation and checkpoints up to a step, from the latest checkpoint if
 * there is one. Returns the losses of all steps up to that one, including those before the checkpoint.
 */
export async function trainUntil(
  engine: Engine,
  until: number,
  checkpoints: Directory,
  long: LongRun,
  onEvaluation?: (trainer: Trainer) => void,
): Promise<number[]> {
  using model = await initialiseModel(engine, CONFIG, { seed: SEED });
  using trainer = await Trainer.create({
    model,
    adapter: lora({ rank: 2, dropout: 0.1 }),
    data: data(SEED),
    policy: policy(long),
    steps: long.steps,
    seed: SEED,
    checkpoints: { directory: checkpoints, every: long.leg, resume: true },
  });
  const evaluationData = data(SEED + 1);
  for await (const { step } of trainer.steps()) {
    if (step % long.every === 0) {
      await trainer.evaluate([evaluationData.next()]);
      onEvaluation?.(trainer);
    }
    if (step >= until) break;
  }
  // `steps()` saves a checkpoint when it is asked for the next step, which a loop that breaks never does.
  if (until < long.steps) await trainer.saveCheckpoint();
  return [...trainer.history.losses];
}
