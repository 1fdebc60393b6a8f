import { execFile, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { Engine } from "../src/engine";
import { memoryDirectory } from "../src/io/directory";
import { openDirectory } from "../src/node/index";
import { longRun, SEED, trainUntil } from "./support/long-run";
import { main } from "./support/main";
import { MALLOC, residentBytes } from "./support/meter";
import { median, writeResults } from "./support/results";

// Trains a small model for many steps with freezes, varying lengths, evaluation and checkpoints: once in one process, and once
// in twenty, each of which resumes from the checkpoint of the one before. Checks that memory does not grow and that both give
// the same losses. Results are written only for the default number of steps.
//
//   npm run bench:soak [-- STEPS]
const DEFAULT_STEPS = 20_000;
const STEPS = Number(process.argv[2] ?? DEFAULT_STEPS);
const LONG = longRun(STEPS);
const LEG = LONG.leg;
/** Largest relative growth of the JavaScript heap and of resident memory. */
const BOUND = 0.02;
setFlagsFromString("--expose-gc");
// --expose-gc defines `gc` in contexts that are created after the flag was set.
const collectGarbage = runInNewContext("gc") as () => void;

/** A step, the bytes in use after it, and the number of GPU buffers. */
interface Sample {
  readonly step: number;
  readonly ledger: number;
  readonly buffers: number;
  readonly heap: number;
  readonly resident: number;
}

/** The samples after the first quarter, at whose end the first layer freezes. */
const afterWarmUp = (samples: readonly Sample[]): readonly Sample[] => samples.slice(Math.ceil(samples.length / 4));

/** Relative growth of a figure: the median of the last third of the samples over that of the first third, minus 1. */
function growth(samples: readonly Sample[], figure: (sample: Sample) => number): number {
  const figures = afterWarmUp(samples).map(figure);
  const third = Math.max(1, Math.floor(figures.length / 3));
  return median(figures.slice(-third)) / median(figures.slice(0, third)) - 1;
}

/** Largest relative distance of a sample from the median: memory that the collector and the allocator happen to hold. */
function jitter(samples: readonly Sample[], figure: (sample: Sample) => number): number {
  const figures = afterWarmUp(samples).map(figure);
  return Math.max(0, ...figures.map((value) => Math.abs(value / median(figures) - 1)));
}

/** Whether the bytes in the ledger never grew; they fall when layers freeze. */
const neverGrew = (samples: readonly Sample[]): boolean =>
  afterWarmUp(samples).every(({ ledger }, i, all) => ledger <= (all[i - 1]?.ledger ?? Infinity));

/** Whether samples with equal ledger bytes have equal numbers of buffers. */
function hasSteadyBuffers(samples: readonly Sample[]): boolean {
  const counts = new Map(samples.map(({ ledger, buffers }) => [ledger, buffers]));
  return samples.every(({ ledger, buffers }) => counts.get(ledger) === buffers);
}

/** Trains with a separate process for every leg. Returns the losses of all steps. */
async function trainInLegs(): Promise<number[]> {
  const folder = mkdtempSync(join(tmpdir(), "safetape-soak-"));
  try {
    for (let until = LEG; until <= STEPS; until += LEG) {
      const args = ["--enable-source-maps", process.argv[1]!, String(STEPS), String(until), folder];
      await promisify(execFile)(process.execPath, args);
      process.stderr.write(`legs: ${until} of ${STEPS} steps\n`);
    }
    // Written by `trainLeg`.
    return JSON.parse(readFileSync(join(folder, "losses.json"), "utf8")) as number[];
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function trainLeg(engine: Engine, until: number, folder: string): Promise<void> {
  const checkpoints = await openDirectory(join(folder, "checkpoints"), { create: true });
  const losses = await trainUntil(engine, until, checkpoints, LONG);
  writeFileSync(join(folder, "losses.json"), JSON.stringify(losses));
}

async function soak(engine: Engine): Promise<void> {
  const samples: Sample[] = [];
  const inOneProcess = trainUntil(engine, STEPS, memoryDirectory("whole"), LONG, (trainer) => {
    collectGarbage();
    const { heapUsed: heap } = process.memoryUsage();
    const { liveBytes: ledger, buffers } = engine.ledger;
    samples.push({ step: trainer.progress.step, ledger, buffers, heap, resident: residentBytes() });
    process.stderr.write(`whole: ${trainer.progress.step} of ${STEPS} steps\n`);
  });
  const [whole, legs] = await Promise.all([inOneProcess, trainInLegs()]);
  const isEqual = legs.length === whole.length && legs.every((loss, i) => Object.is(loss, whole[i]));
  const figures = { heap: ({ heap }: Sample) => heap, resident: ({ resident }: Sample) => resident };
  const flat = Object.entries(figures).map(([name, figure]) => {
    return { name, growth: growth(samples, figure), jitter: jitter(samples, figure) };
  });
  const broken = flat.flatMap(({ name, growth }) => (growth <= BOUND ? [] : [`${name} grew by ${growth}`]));
  if (!neverGrew(samples)) broken.push("the ledger grew");
  if (!hasSteadyBuffers(samples)) broken.push("the number of GPU buffers changed");
  if (!isEqual) broken.push("losses in legs differ from those of one run");
  console.table(samples);
  console.table(flat);
  console.log({ steps: STEPS, seed: SEED, isEqual, broken });
  const results = { seed: SEED, steps: STEPS, leg: LEG, isEqual, flat, samples };
  if (STEPS === DEFAULT_STEPS) await writeResults(engine, "soak", results);
  process.exitCode = broken.length > 0 ? 1 : 0;
}

const [, program = "", , until, folder] = process.argv;
if (Object.keys(MALLOC).some((name) => process.env[name] === undefined)) {
  const args = ["--enable-source-maps", program, ...process.argv.slice(2)];
  const { status } = spawnSync(process.execPath, args, { env: { ...process.env, ...MALLOC }, stdio: "inherit" });
  process.exit(status ?? 1);
}
await main("soak", (engine) => (folder === undefined ? soak(engine) : trainLeg(engine, Number(until), folder)));
