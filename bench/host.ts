import { readFile } from "node:fs/promises";
import { lora } from "../src/adapter/lora";
import { Batches } from "../src/data/batches";
import { readGlue } from "../src/data/glue";
import { encodeExamples } from "../src/data/sample";
import type { Engine } from "../src/engine";
import { safe } from "../src/freeze/safe";
import { initialiseModel } from "../src/io/load-model";
import { loadModel, loadTokenizer, openDirectory } from "../src/node/index";
import { batchInputs, countedLabels } from "../src/train/inputs";
import { Trainer } from "../src/train/trainer";
import { main } from "./support/main";
import { bertConfig, loraTrainer } from "./support/model";
import { report, round } from "./support/results";
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
  await report(engine, "safe-probe", [await probe(engine)]);
}

/** Seconds of SAFE's probe on the shipped task, at its default cadence of one an epoch, beside those of the epoch. */
async function probe(engine: Engine): Promise<Record<string, unknown>> {
  const epochs = 2;
  using model = await loadModel(engine, "examples/model");
  const tokenizer = await loadTokenizer(await openDirectory("examples/model"));
  const { examples } = await readGlue(await openDirectory("examples/data/sentiment"), "train.tsv", "sst2");
  const { samples } = encodeExamples(examples, tokenizer, { maxLength: 40 });
  const data = new Batches(samples, { size: 32, maxLength: 40, seed: 1 });
  const policy = safe();
  const probes: number[] = [];
  const timed: typeof policy = {
    ...policy,
    async decide(context) {
      const start = performance.now();
      const names = await policy.decide(context);
      probes.push((performance.now() - start) / 1000);
      return names;
    },
  };
  using trainer = await Trainer.create({ model, adapter: lora({ rank: 4 }), data, epochs, policy: timed });
  const times: number[] = [];
  for await (const { seconds } of trainer.steps()) times.push(seconds);
  const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
  // The first probe compiles its pipelines, once a run.
  const [all, later] = [sum(times), sum(probes.slice(1)) / (probes.length - 1)];
  // The first epoch freezes nothing yet; its last step ends with the first probe.
  const epoch = sum(times.slice(0, data.perEpoch)) - (probes[0] as number);
  return {
    ...{ "steps an epoch": data.perEpoch, batch: "32 x 40", probes: probes.length, "epoch s": round(epoch) },
    ...{ "first probe s": round(probes[0] as number), "later probes s": round(later) },
    ...{ "share of the run": round(sum(probes) / all), "share of an epoch": round(later / epoch) },
  };
}

async function watchSteps(trainer: Trainer, watch: Watch, count: number): Promise<HostStep[]> {
  const steps = trainer.steps();
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
  // What the device has to wait for.
  const idleMs = (one: HostStep): number => hostMs(one) - one.hidden;
  const objects = seen.map((one) => Object.values(one.objects).reduce((a, b) => a + b, 0));
  return {
    ...{ "uploads ms": of(({ ms }) => ms.uploads), "encode ms": of(({ ms }) => ms.encode) },
    ...{ "submit ms": of(({ ms }) => ms.submit), "waiting ms": of(({ ms }) => ms.waiting) },
    ...{ "readback ms": of(({ ms }) => ms.readback), "step ms": of(({ wall }) => wall), "host ms": of(hostMs) },
    ...{ "least host ms": round(Math.min(...seen.map(hostMs))), "of it while the device works": of((s) => s.hidden) },
    "host share": of((one) => hostMs(one) / one.wall),
    ...{ "idle ms": of(idleMs), "least idle ms": round(Math.min(...seen.map(idleMs))) },
    "CPU ms while waiting": of((one) => one.waitingCpu),
    ...{ "objects a step": Math.max(...objects), encoders: of((one) => one.encoders) },
    ...{ submits: of((one) => one.submits), writes: of((one) => one.writes) },
    "round trips": of((one) => one.roundTrips),
  };
}

const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] as number;

await main("host", host);
