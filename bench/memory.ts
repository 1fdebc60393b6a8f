import { lora } from "../src/adapter/lora";
import type { Engine } from "../src/engine";
import { sumBytes } from "../src/gpu/ledger";
import { initialiseModel } from "../src/io/load-model";
import { plan } from "../src/train/estimate/predict";
import { main } from "./support/main";
import { bertConfig, loraTrainer, tensorsBelow } from "./support/model";
import { report, round } from "./support/results";

const MEGA = 1e6;

/** Bytes by the number of frozen layers: planned for BERT-base; planned and measured for a small BERT that trains. */
export async function memory(engine: Engine): Promise<void> {
  const config = { ...bertConfig(12, 768), vocab_size: 30522 };
  const planned = Array.from({ length: 13 }, (_, freezeBelow) => {
    const { bytes, peakBytes, flops } = plan({
      config,
      adapter: lora({ rank: 4 }),
      batch: 32,
      length: 128,
      freezeBelow,
    });
    return {
      "frozen layers": freezeBelow,
      ...inMegabytes(bytes),
      peak: round(peakBytes / MEGA),
      TFLOP: round((flops.forward + flops.backward) / 1e12),
    };
  });
  await report(engine, "memory-plan-bert-base-32x128", planned);
  using model = await initialiseModel(engine, bertConfig(4, 128));
  using trainer = await loraTrainer(model, 8, 64);
  const steps = trainer.steps();
  const measured: Record<string, unknown>[] = [];
  for (let frozen = 0; frozen <= 4; frozen++) {
    const names = tensorsBelow(trainer, frozen);
    if (names.length > 0) await trainer.freeze(names);
    await steps.next();
    const [live, predicted] = [engine.ledger.live, trainer.predictedBytes()];
    const isEqual = sumBytes(live) === sumBytes(predicted) && live.saved === predicted.saved;
    measured.push({ "frozen layers": frozen, ...inMegabytes(live), "ledger equals plan": isEqual });
  }
  await report(engine, "memory-measured-bert-4x128", measured);
}

function inMegabytes(bytes: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(Object.entries(bytes).map(([lifetime, count]) => [`${lifetime} MB`, round(count / MEGA)]));
}

await main("memory", memory);
