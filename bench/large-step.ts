import { lora } from "../src/adapter/lora";
import { Random } from "../src/base/random";
import { Batches } from "../src/data/batches";
import type { Engine } from "../src/engine";
import { sumBytes } from "../src/gpu/ledger";
import { initialiseModel } from "../src/io/load-model";
import { Trainer } from "../src/train/trainer";
import { main } from "./support/main";
import { residentBytes } from "./support/meter";
import { readConfig, tensorsBelow } from "./support/model";
import { report, round } from "./support/results";

const STEPS = [
  { config: "bert-base", batch: 8, length: 128 },
  { config: "gpt2", batch: 2, length: 256 },
] as const;

/** Trains models of published sizes with random weights: a LoRA step, then one with the lower half of the layers frozen. */
export async function largeStep(engine: Engine): Promise<void> {
  const rows: Record<string, unknown>[] = [];
  for (const { config: name, batch, length } of STEPS) {
    const config = await readConfig(`bench/configs/${name}.json`);
    const before = residentBytes();
    using model = await initialiseModel(engine, config);
    const random = new Random(1);
    const isText = model.model.task === "causal_lm";
    const samples = Array.from({ length: batch }, (_, i) => {
      const ids = Int32Array.from({ length }, () => random.below(20000));
      return { ids, label: isText ? ids : i % 2 };
    });
    const data = new Batches(samples, { size: batch, labels: isText ? "token" : "class" });
    using trainer = await Trainer.create({ model, adapter: lora({ rank: 4 }), data, steps: 2 });
    const steps = trainer.steps();
    const { layers } = model.model;
    for (const frozen of [0, layers / 2]) {
      if (frozen > 0) await trainer.freeze(tensorsBelow(trainer, frozen));
      const { value } = await steps.next();
      if (!value) throw new Error("The run ended early.");
      const [planned, live] = [sumBytes(trainer.predictedBytes()), engine.ledger.liveBytes];
      rows.push({
        model: name,
        batch,
        length,
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
