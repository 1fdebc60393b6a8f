import type { Engine } from "../src/engine";
import { initialiseModel } from "../src/io/load-model";
import { batchInputs, countedLabels } from "../src/train/plans/inputs";
import type { Trainer } from "../src/train/trainer";
import { main } from "./support/main";
import { bertConfig, loraTrainer, readConfig } from "./support/model";
import { median, report, round } from "./support/results";
import { Watch } from "./support/watch";
import type { HostCounts } from "./support/watch";

const WARM_UP = 3;
const SIZES = [
  { name: "BERT 4 x 128", config: bertConfig(4, 128), size: 8, length: 64, steps: 40 },
  { name: "BERT-base", config: await readConfig("bench/configs/bert-base.json"), size: 2, length: 32, steps: 15 },
];

/** WebGPU calls and host times of one step. */
interface HostStep extends HostCounts {
  readonly wallMs: number;
}

/** Measures the host's time in a LoRA step by phase, and the number of its WebGPU calls. */
export async function host(engine: Engine): Promise<void> {
  const watch = new Watch(engine.device);
  const rows: Record<string, unknown>[] = [];
  for (const { name, config, size, length, steps } of SIZES) {
    using model = await initialiseModel(engine, config);
    using trainer = await loraTrainer(model, size, length);
    const hostSteps = await watchSteps(trainer, watch, steps);
    const inputs = round(inputsMs(trainer));
    rows.push({ model: name, batch: `${size} x ${length}`, "inputs ms": inputs, ...summary(hostSteps) });
  }
  await report(engine, "host", rows);
}

async function watchSteps(trainer: Trainer, watch: Watch, count: number): Promise<HostStep[]> {
  const steps = trainer.steps({ ahead: true });
  const hostSteps: HostStep[] = [];
  for (let i = 0; i < WARM_UP + count; i++) {
    watch.take();
    const start = performance.now();
    if ((await steps.next()).done) throw new Error("The run ended early.");
    const wallMs = performance.now() - start;
    const counts = watch.take();
    if (i >= WARM_UP) hostSteps.push({ ...counts, wallMs });
  }
  await steps.return();
  return hostSteps;
}

/** Median milliseconds to make a batch and its inputs, apart from a step. */
function inputsMs(trainer: Trainer): number {
  const { model } = trainer.options.model;
  const times = Array.from({ length: 20 }, () => {
    const start = performance.now();
    const batch = trainer.options.data.next();
    batchInputs(model, batch, { labels: countedLabels(model, batch) });
    return performance.now() - start;
  });
  return median(times);
}

function summary(hostSteps: readonly HostStep[]): Record<string, unknown> {
  const medianOf = (value: (step: HostStep) => number): number => round(median(hostSteps.map(value)));
  const hostMs = ({ wallMs, ms }: HostStep): number => wallMs - ms.waiting;
  const objects = hostSteps.map((step) => Object.values(step.objects).reduce((a, b) => a + b, 0));
  return {
    "uploads ms": medianOf(({ ms }) => ms.uploads),
    "encode ms": medianOf(({ ms }) => ms.encode),
    "submit ms": medianOf(({ ms }) => ms.submit),
    "waiting ms": medianOf(({ ms }) => ms.waiting),
    "readback ms": medianOf(({ ms }) => ms.readback),
    "step ms": medianOf(({ wallMs }) => wallMs),
    "host ms": medianOf(hostMs),
    "least host ms": round(Math.min(...hostSteps.map(hostMs))),
    "host share": medianOf((step) => hostMs(step) / step.wallMs),
    "device idle ms": medianOf(({ idle }) => idle),
    "CPU ms while waiting": medianOf((step) => step.waitingCpu),
    "objects a step": Math.max(...objects),
    encoders: medianOf((step) => step.encoders),
    submits: medianOf((step) => step.submits),
    writes: medianOf((step) => step.writes),
    "round trips": medianOf((step) => step.roundTrips),
  };
}

await main("host", host);
