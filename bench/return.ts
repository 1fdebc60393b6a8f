import { spawnSync } from "node:child_process";
import { lora } from "../src/adapter/lora";
import { Random } from "../src/base/random";
import { makeBatch } from "../src/data/batch";
import type { Batch } from "../src/data/batch";
import type { Engine } from "../src/engine";
import { initialiseModel } from "../src/io/load-model";
import { createEngine } from "../src/node/index";
import { Trainer } from "../src/train/trainer";
import { drivers } from "./support/drivers";
import { MALLOC, meterOf, settledBytes } from "./support/meter";
import type { Meter } from "./support/meter";
import { tensorsBelow } from "./support/model";
import { adapterName, round, writeResults } from "./support/results";
import { verdictOf } from "./support/return-verdict";
import type { Reading, Return } from "./support/return-verdict";

const LAYERS = 4;
/** Many short rows make buffers above 4 MiB with little work. Dawn takes smaller ones from blocks that it does not return. */
const [ROWS, FEW, LENGTH] = [1056, 2, 16];
const [STEPS, EVERY, WARM_UP] = [1000, 100, 100];
const CONFIG = {
  model_type: "bert",
  vocab_size: 500,
  hidden_size: 64,
  num_hidden_layers: LAYERS,
  num_attention_heads: 4,
  intermediate_size: 256,
  max_position_embeddings: LENGTH,
  num_labels: 2,
};

/** Measures the memory that the process returns as layers freeze one by one, and whether it grows in many steps afterwards. */
async function measure(engine: Engine): Promise<readonly string[]> {
  const meter = meterOf(engine);
  const [many, few] = [batchOf(ROWS), batchOf(FEW)];
  let batch = few;
  const data = { perEpoch: 1, next: () => batch, shapes: () => [many, few] };
  using model = await initialiseModel(engine, CONFIG);
  const schedule = { type: "constant" } as const;
  using trainer = await Trainer.create({ model, adapter: lora({ rank: 2 }), data, steps: 2 * STEPS, schedule });
  const steps = trainer.steps();
  const run = async (next: Batch, count: number): Promise<void> => {
    batch = next;
    for (let i = 0; i < count; i++) await steps.next();
  };
  // The trainer drew its first batch, a small one, when it was created.
  await run(few, WARM_UP);
  await run(many, 2);
  const returns = await freezeLayerByLayer(engine, trainer, meter, () => run(many, 1));
  await run(few, WARM_UP);
  const readings = await watch(engine, meter, () => run(few, EVERY));
  const { ratio, drift, broken } = verdictOf(returns, readings);
  const name = adapterName(engine);
  console.log(`\n${name}: ${meter.name}`);
  console.table(returns);
  console.table(readings);
  const shapes = { "rows of a batch, freezing": ROWS, "rows of a batch, afterwards": FEW, "tokens of a row": LENGTH };
  const summary = { meter: meter.name, ...shapes, "steps before the first reading": WARM_UP, ratio, drift, broken };
  await writeResults(engine, "return", { ...summary, config: CONFIG, returns, readings });
  return broken.map((violation) => `${name} ${violation}`);
}

function batchOf(size: number): Batch {
  const random = new Random(1);
  const ids = (): Int32Array => Int32Array.from({ length: LENGTH }, () => random.below(CONFIG.vocab_size));
  const samples = Array.from({ length: size }, (_, i) => ({ ids: ids(), label: i % 2 }));
  return makeBatch(samples, { size, length: LENGTH, padId: 0, labels: "class" });
}

/** Reads the meter right before and right after each freeze. A step follows, to show that the rest still trains. */
async function freezeLayerByLayer(
  engine: Engine,
  trainer: Trainer,
  meter: Meter,
  step: () => Promise<void>,
): Promise<Return[]> {
  const rows: (Return & { ratio: number })[] = [];
  for (let frozen = 1; frozen < LAYERS; frozen++) {
    const [before, live] = [await settledBytes(meter), engine.ledger.liveBytes];
    await trainer.freeze(tensorsBelow(trainer, frozen));
    const [ledger, measured] = [live - engine.ledger.liveBytes, before - (await settledBytes(meter))];
    const bytes = { "ledger bytes returned": ledger, "measured bytes returned": measured };
    rows.push({ "frozen layers": frozen, ...bytes, ratio: round(measured / ledger) });
    await step();
    console.error(`${adapterName(engine)}: ${frozen} of ${LAYERS} layers frozen`);
  }
  return rows;
}

async function watch(engine: Engine, meter: Meter, steps: () => Promise<void>): Promise<Reading[]> {
  const rows: Reading[] = [];
  for (let step = 0; step <= STEPS; step += EVERY) {
    if (step > 0) await steps();
    const bytes = { "measured bytes": await settledBytes(meter), "ledger bytes": engine.ledger.liveBytes };
    const row = { step, ...bytes, buffers: engine.ledger.buffers, "JS heap": process.memoryUsage().heapUsed };
    rows.push(row);
    console.error(`${adapterName(engine)}: step ${step} of ${STEPS} after the freezes`);
  }
  return rows;
}

/** Measures each driver in a separate process, whose size only its own buffers change. Returns the exit status. */
function measureEach(): number {
  const args = ["--expose-gc", "--enable-source-maps", process.argv[1]!, "measure"];
  const codes = drivers().map(({ env }) => {
    return spawnSync(process.execPath, args, { env: { ...process.env, ...MALLOC, ...env }, stdio: "inherit" }).status;
  });
  return codes.every((code) => code === 0) ? 0 : 1;
}

if (process.argv[2] === "measure") {
  using engine = await createEngine();
  const broken = await measure(engine);
  for (const violation of broken) console.error(`Bound broken: ${violation}.`);
  process.exitCode = broken.length > 0 ? 1 : 0;
} else {
  process.exitCode = measureEach();
}
