import type { Engine } from "../src/engine";
import { initialiseModel } from "../src/io/load-model";
import { main } from "./support/main";
import { bertConfig, loraTrainer, tensorsBelow } from "./support/model";
import { report, round } from "./support/results";

const LAYERS = 4;

/** One LoRA step of a 4-layer x 256 BERT, 8 x 64: all adapters live, the lower half frozen, the top one alone. */
export async function step(engine: Engine): Promise<void> {
  using model = await initialiseModel(engine, bertConfig(LAYERS, 256));
  const settings = [0, LAYERS / 2, LAYERS - 1];
  const trainers = [];
  for (const frozen of settings) {
    const trainer = await loraTrainer(model, 8, 64);
    if (frozen > 0) await trainer.freeze(tensorsBelow(trainer, frozen));
    trainers.push({ frozen, trainer, steps: trainer.steps(), times: [] as number[], flops: 0 });
  }
  // Interleaved, so that noise of the machine meets all alike.
  for (let round_ = 0; round_ < 8; round_++) {
    for (const run of trainers) {
      const { value } = await run.steps.next();
      if (!value) throw new Error("The run ended early.");
      if (round_ > 0) run.times.push(value.seconds * 1000);
      run.flops = value.flops;
    }
  }
  const median = (times: number[]): number => [...times].sort((a, b) => a - b)[Math.floor(times.length / 2)]!;
  const [all] = trainers;
  const rows = trainers.map(({ frozen, times, flops }) => ({
    "frozen layers": frozen,
    ms: round(median(times)),
    fastest: round(Math.min(...times)),
    slowest: round(Math.max(...times)),
    "time ratio": round(median(times) / median(all?.times ?? [])),
    "FLOPs ratio": round(flops / (all?.flops ?? NaN)),
    "GFLOP/s": round(flops / median(times) / 1e6),
  }));
  for (const { trainer } of trainers) trainer.dispose();
  await report(engine, "step-bert-4x256-8x64", rows);
}

await main("step", step);
