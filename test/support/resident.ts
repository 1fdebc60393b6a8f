// A program of its own, so that nothing but its buffers moves its resident size: see device/memory-return.test.ts.
// Prints one line of JSON: bytes that the ledger says a freeze returned, bytes by which this process shrank, and the
// bytes live when all is disposed of.
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { lora } from "../../src/adapter/lora";
import { Random } from "../../src/base/random";
import { Batches } from "../../src/data/batches";
import { Engine } from "../../src/engine";
import { initialiseModel } from "../../src/io/load-model";
import { Trainer } from "../../src/train/trainer";
import { testDevice } from "./device";

/** Many short rows: buffers above 4 MiB at few products, for a software adapter computes them on two cores. */
const CONFIG = {
  model_type: "bert",
  vocab_size: 500,
  hidden_size: 64,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  intermediate_size: 128,
  max_position_embeddings: 16,
  num_labels: 2,
};
const [ROWS, LENGTH] = [1300, 16];

/** Resident bytes of this process: a software adapter's device memory is part of it. */
function residentBytes(): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync("/proc/self/status", "utf8"))?.[1]) * 1024;
}

/** The least of several readings, since JavaScript's own heap comes and goes. */
async function settledBytes(): Promise<number> {
  const readings: number[] = [];
  for (let i = 0; i < 10; i++) {
    // Exists under --expose-gc.
    (globalThis as { gc?: () => void }).gc?.();
    await sleep(50);
    readings.push(residentBytes());
  }
  return Math.min(...readings);
}

const engine = new Engine(await testDevice());
const random = new Random(1);
const samples = Array.from({ length: ROWS }, (_, i) => {
  return { ids: Int32Array.from({ length: LENGTH }, () => random.below(500)), label: i % 2 };
});
const model = await initialiseModel(engine, CONFIG);
const data = new Batches(samples, { size: ROWS });
const trainer = await Trainer.create({ model, adapter: lora({ rank: 4 }), data, steps: 2 });
const steps = trainer.steps();
await steps.next();
const before = await settledBytes();
const names = [...trainer.state.liveByLayer()].filter(([layer]) => layer < 1).flatMap(([, own]) => own);
const { returnedBytes } = await trainer.freeze(names);
const shrankBytes = before - (await settledBytes());
const loss = (await steps.next()).value?.loss ?? Number.NaN;
trainer.dispose();
model.dispose();
process.stdout.write(JSON.stringify({ returnedBytes, shrankBytes, loss, liveBytes: engine.ledger.liveBytes }) + "\n");
engine.dispose();
