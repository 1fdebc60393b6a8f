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

/** How long a run is, in steps: a fortieth lies between two looks at it, a twentieth between two checkpoints. */
export interface LongRun {
  readonly steps: number;
  readonly leg: number;
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

/** A quarter through the run the lowest layer freezes, halfway the next. */
const policy = ({ steps }: LongRun) =>
  fixed([0, 1].map((layer) => ({ beforeStep: Math.round(((layer + 1) * steps) / 4), tensors: [`layer.${layer}.`] })));

/**
 * A small model with freezes, changing lengths, evaluation and checkpoints: trains from the latest checkpoint, if any, to a
 * step, and tells the losses of all steps up to it.
 */
export async function trainUntil(
  engine: Engine,
  until: number,
  checkpoints: Directory,
  long: LongRun,
  see?: (trainer: Trainer) => void,
): Promise<number[]> {
  using model = await initialiseModel(engine, CONFIG, { seed: SEED });
  const common = {
    model,
    adapter: lora({ rank: 2, dropout: 0.1 }),
    data: data(SEED),
    policy: policy(long),
    seed: SEED,
  };
  const saving = { checkpoints, checkpointEvery: long.leg, resume: "auto" as const };
  using trainer = await Trainer.create({ ...common, ...saving, steps: long.steps });
  const evaluated = data(SEED + 1);
  for await (const { step } of trainer.steps()) {
    if (step % long.every === 0) {
      await trainer.evaluate([evaluated.next()]);
      see?.(trainer);
    }
    if (step >= until) break;
  }
  // Saved after the caller has seen the step: a loop that is broken off saves for itself.
  if (until < long.steps) await trainer.saveCheckpoint();
  return [...trainer.history.losses];
}
