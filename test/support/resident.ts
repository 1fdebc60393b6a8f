// A separate program, so that only its buffers change its resident size (device/memory-return.test.ts runs it). It prints one
// line of JSON: the bytes that a freeze returned by the ledger, the bytes by which this process shrank, the loss of the next
// step, and the live bytes after everything is disposed of.
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { lora } from "../../src/adapter/lora";
import { Random } from "../../src/base/random";
import { Batches } from "../../src/data/batches";
import { Engine } from "../../src/engine";
import { initialiseModel } from "../../src/io/load-model";
import { Trainer } from "../../src/train/trainer";
import { testDevice } from "./device";

/** Many short rows: buffers of more than 4 MiB with little arithmetic, since a software adapter computes on two cores. */
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

/** Resident bytes of this process, which include the device memory of a software adapter. */
function residentBytes(): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync("/proc/self/status", "utf8"))?.[1]) * 1024;
}

/** The minimum of several readings, since the size of JavaScript's heap varies. */
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
const names = [...trainer.state.liveByLayer()].filter(([layer]) => layer < 1).flatMap(([, tensors]) => tensors);
const { returnedBytes } = await trainer.freeze(names);
const shrankBytes = before - (await settledBytes());
const loss = (await steps.next()).value?.loss ?? Number.NaN;
trainer.dispose();
model.dispose();
process.stdout.write(JSON.stringify({ returnedBytes, shrankBytes, loss, liveBytes: engine.ledger.liveBytes }) + "\n");
engine.dispose();
