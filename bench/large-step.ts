import { lora } from "../src/adapter/lora";
import type { Engine } from "../src/engine";
import { sumBytes } from "../src/gpu/ledger";
import { initialiseModel } from "../src/io/load-model";
import { Trainer } from "../src/train/trainer";
import { main } from "./support/main";
import { residentBytes } from "./support/meter";
import { randomBatches, readConfig, tensorsBelow, withLayers } from "./support/model";
import { report, round } from "./support/results";

/** Models of published sizes, and how many of their layers a step has; all, if that is not said. */
const STEPS: readonly { config: string; batch: number; length: number; layers?: number }[] = [
  { config: "bert-base", batch: 8, length: 128 },
  { config: "gpt2", batch: 2, length: 256 },
  ...[
    "llama-3.2-1b",
    "qwen3-0.6b",
    "qwen3-1.7b",
    "gemma-3-270m",
    "gemma-3-1b",
    "flan-t5-base",
    "flan-t5-xl",
    "deberta-v3-base",
    "modernbert-base",
    "swin-base",
  ].map((config) => ({ config, batch: 2, length: 64, layers: 2 })),
];

/** Trains models of published widths with random weights: a LoRA step, then one with the lower half of the layers frozen. */
export async function largeStep(engine: Engine): Promise<void> {
  const rows: Record<string, unknown>[] = [];
  for (const { config: name, batch, length, layers: depth } of STEPS) {
    const config = await readConfig(`bench/configs/${name}.json`);
    const before = residentBytes();
    using model = await initialiseModel(engine, depth === undefined ? config : withLayers(config, depth));
    const { layers } = model.model;
    const data = randomBatches(model, batch, length);
    using trainer = await Trainer.create({ model, adapter: lora({ rank: 4 }), data, steps: 2 });
    const steps = trainer.steps();
    for (const frozen of [0, layers / 2]) {
      if (frozen > 0) await trainer.freeze(tensorsBelow(trainer, frozen));
      const { value } = await steps.next();
      if (!value) throw new Error("The run ended early.");
      const [planned, live] = [sumBytes(trainer.predictedBytes()), engine.ledger.liveBytes];
      rows.push({
        model: name,
        batch,
        length: model.model.image ? model.model.maxLength : length,
        layers,
        "frozen layers": frozen,
        loss: round(value.loss),
        "loss finite": Number.isFinite(value.loss),
        seconds: round(value.seconds),
        "planned MB": round(planned / 1e6),
        "ledger equals plan": planned === live,
        "resident MB since the start": round((residentBytes() - before) / 1e6),
      });
    }
  }
  await report(engine, "large-step", rows);
}

await main("large-step", largeStep);
