import type { Engine } from "../src/engine";
import { initialiseModel } from "../src/io/load-model";
import { main } from "./support/main";
import { bertConfig, loraTrainer, tensorsBelow } from "./support/model";
import { median, report, round } from "./support/results";

const LAYERS = 4;

/** Times a LoRA step of a BERT of 4 layers x 256 on batches of 8 x 64: all layers live, the lower half frozen, all but one. */
export async function step(engine: Engine): Promise<void> {
  using model = await initialiseModel(engine, bertConfig(LAYERS, 256));
  const settings = [0, LAYERS / 2, LAYERS - 1];
  const runs = [];
  for (const frozen of settings) {
    const trainer = await loraTrainer(model, 8, 64);
    if (frozen > 0) await trainer.freeze(tensorsBelow(trainer, frozen));
    const times: number[] = [];
    runs.push({ frozen, trainer, steps: trainer.steps(), times, flops: 0 });
  }
  // Interleaved, so that noise affects all runs equally.
  for (let i = 0; i < 8; i++) {
    for (const run of runs) {
      const { value } = await run.steps.next();
      if (!value) throw new Error("The run ended early.");
      if (i > 0) run.times.push(value.seconds * 1000);
      run.flops = value.flops;
    }
  }
  const allLive = runs[0]!;
  const rows = runs.map(({ frozen, times, flops }) => ({
    "frozen layers": frozen,
    ms: round(median(times)),
    fastest: round(Math.min(...times)),
    slowest: round(Math.max(...times)),
    "time ratio": round(median(times) / median(allLive.times)),
    "FLOPs ratio": round(flops / allLive.flops),
    "GFLOP/s": round(flops / median(times) / 1e6),
  }));
  for (const { trainer } of runs) trainer.dispose();
  await report(engine, "step-bert-4x256-8x64", rows);
}

await main("step", step);
