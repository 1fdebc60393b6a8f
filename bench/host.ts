import { readFile } from "node:fs/promises";
import type { Engine } from "../src/engine";
import { initialiseModel } from "../src/io/load-model";
import { batchInputs, countedLabels } from "../src/train/plans/inputs";
import type { Trainer } from "../src/train/trainer";
import { main } from "./support/main";
import { bertConfig, loraTrainer } from "./support/model";
import { median, report, round } from "./support/results";
import { Watch } from "./support/watch";
import type { Watched } from "./support/watch";

const WARM_UP = 3;
const SIZES = [
  { name: "BERT 4 x 128", config: () => Promise.resolve(bertConfig(4, 128)), size: 8, length: 64, steps: 40 },
  { name: "BERT-base", config: () => readConfig("bert-base"), size: 2, length: 32, steps: 15 },
];

const readConfig = async (name: string): Promise<Record<string, unknown>> =>
  JSON.parse(await readFile(`bench/configs/${name}.json`, "utf8")) as Record<string, unknown>;

/** One step as the host saw it. */
interface HostStep extends Watched {
  readonly wall: number;
}

/** What a LoRA step costs the host, by phase, and what it asks of WebGPU. */
export async function host(engine: Engine): Promise<void> {
  const watch = new Watch(engine.device);
  const rows: Record<string, unknown>[] = [];
  for (const { name, config, size, length, steps } of SIZES) {
    using model = await initialiseModel(engine, await config());
    using trainer = await loraTrainer(model, size, length);
    const seen = await watchSteps(trainer, watch, steps);
    rows.push({ model: name, batch: `${size} x ${length}`, "inputs ms": round(inputsTime(trainer)), ...summary(seen) });
  }
  await report(engine, "host", rows);
}

async function watchSteps(trainer: Trainer, watch: Watch, count: number): Promise<HostStep[]> {
  const steps = trainer.steps({ ahead: true });
  const seen: HostStep[] = [];
  for (let i = 0; i < WARM_UP + count; i++) {
    watch.take();
    const start = performance.now();
    if ((await steps.next()).done) throw new Error("The run ended early.");
    const wall = performance.now() - start;
    const watched = watch.take();
    if (i >= WARM_UP) seen.push({ ...watched, wall });
  }
  await steps.return();
  return seen;
}

/** Milliseconds to make a batch and its inputs, alone. */
function inputsTime(trainer: Trainer): number {
  const { model } = trainer.options.model;
  const times = Array.from({ length: 20 }, () => {
    const start = performance.now();
    const batch = trainer.options.data.next();
    batchInputs(model, batch, { labels: countedLabels(model, batch) });
    return performance.now() - start;
  });
  return median(times);
}

function summary(seen: readonly HostStep[]): Record<string, unknown> {
  const of = (value: (step: HostStep) => number): number => round(median(seen.map(value)));
  const hostMs = ({ wall, ms }: HostStep): number => wall - ms.waiting;
  const objects = seen.map((one) => Object.values(one.objects).reduce((a, b) => a + b, 0));
  return {
    "uploads ms": of(({ ms }) => ms.uploads),
    "encode ms": of(({ ms }) => ms.encode),
    "submit ms": of(({ ms }) => ms.submit),
    "waiting ms": of(({ ms }) => ms.waiting),
    "readback ms": of(({ ms }) => ms.readback),
    "step ms": of(({ wall }) => wall),
    "host ms": of(hostMs),
    "least host ms": round(Math.min(...seen.map(hostMs))),
    "host share": of((one) => hostMs(one) / one.wall),
    "device idle ms": of(({ idle }) => idle),
    "CPU ms while waiting": of((one) => one.waitingCpu),
    "objects a step": Math.max(...objects),
    encoders: of((one) => one.encoders),
    submits: of((one) => one.submits),
    writes: of((one) => one.writes),
    "round trips": of((one) => one.roundTrips),
  };
}

await main("host", host);
