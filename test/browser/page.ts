// Bundled for a browser by device/browser.test.ts: trains on navigator.gpu, and tells the test what came of it.
import { Batches, createEngine, fixed, indexedDbTuningCache, initialiseModel, lora, Trainer } from "../../src/index";
import type { BrowserRun, Told } from "./run";

async function train(): Promise<Told> {
  const { config, samples, freezes, steps } = (await (await fetch("/run.json")).json()) as BrowserRun;
  using engine = await createEngine();
  let told: Omit<Told, "left" | "cached">;
  {
    using model = await initialiseModel(engine, config);
    const rows = samples.map(({ ids, label }) => ({ ids: Int32Array.from(ids), label }));
    const data = new Batches(rows, { size: 4, shuffle: false });
    const policy = fixed(freezes);
    using trainer = await Trainer.create({ model, adapter: lora({ rank: 2 }), data, steps, policy, dropout: false });
    const { losses } = await trainer.train();
    told = { losses, planned: trainer.predictedBytes(), live: engine.ledger.live };
  }
  return { ...told, left: engine.ledger.liveBytes, cached: await keepTuning() };
}

/** What a second cache finds of what a first one saved, and of what nobody did. */
async function keepTuning(): Promise<readonly unknown[]> {
  await indexedDbTuningCache("test")?.save("one", { class: { chosen: "old", tried: [] } });
  await indexedDbTuningCache("test")?.save("one", { class: { chosen: "portable", tried: ["portable"] } });
  const second = indexedDbTuningCache("test");
  return [await second?.load("one"), (await second?.load("two")) ?? "nothing"];
}

const told = await train().catch((error: unknown) => ({ error: String((error as Error).stack ?? error) }));
await fetch("/result", { method: "POST", body: JSON.stringify(told) });
