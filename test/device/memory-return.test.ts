import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { Batches, Engine, initialiseModel, lora, Trainer } from "safetape";
import { Random } from "../../src/base/random";
import { testDevice } from "../support/device";

const CONFIG = {
  ...{ model_type: "bert", vocab_size: 500, hidden_size: 256, num_hidden_layers: 2, num_attention_heads: 4 },
  ...{ intermediate_size: 512, max_position_embeddings: 256, num_labels: 2 },
};
const [ROWS, LENGTH] = [32, 160];

/** Resident bytes of this process: a software adapter's device memory is part of it. */
function residentBytes(): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync("/proc/self/status", "utf8"))?.[1]) * 1024;
}

/** The least of several readings, since JavaScript's own heap comes and goes. */
async function settledBytes(): Promise<number> {
  const readings: number[] = [];
  for (let i = 0; i < 10; i++) {
    (globalThis as { gc?: () => void }).gc?.();
    await new Promise((resolve) => setTimeout(resolve, 50));
    readings.push(residentBytes());
  }
  return Math.min(...readings);
}

it("gives the driver back what the ledger says: the process shrinks by at least 90 % of it", async () => {
  const engine = new Engine(await testDevice());
  const random = new Random(1);
  const samples = Array.from({ length: ROWS }, (_, i) => {
    return { ids: Int32Array.from({ length: LENGTH }, () => random.below(500)), label: i % 2 };
  });
  using model = await initialiseModel(engine, CONFIG);
  const data = new Batches(samples, { size: ROWS });
  using trainer = await Trainer.create({ model, adapter: lora({ rank: 4 }), data, steps: 3 });
  const steps = trainer.steps();
  await steps.next();
  const before = await settledBytes();
  const names = [...trainer.state.liveByLayer()].filter(([layer]) => layer < 1).flatMap(([, own]) => own);
  const { returnedBytes } = await trainer.freeze(names);
  const fell = before - (await settledBytes());
  process.stdout.write(`ledger returned ${returnedBytes} bytes, the process shrank by ${fell}\n`);
  expect(returnedBytes, "bytes returned by the freeze").toBeGreaterThan(35e6);
  expect(fell / returnedBytes, "share of the returned bytes that the process gave back").toBeGreaterThan(0.9);
  expect((await steps.next()).value?.loss, "the run goes on").toBeGreaterThan(0);
  trainer.dispose();
  model.dispose();
  expect(engine.ledger.liveBytes).toBe(0);
  engine.dispose();
}, 300_000);
