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

/**
 * npm run bench:soak [-- STEPS]: many steps of a small model with freezes, changing lengths, evaluation and checkpoints, in
 * one process; and once more in twenty, each of which goes on from the checkpoint of the one before.
 */
const WHOLE = 20_000;
const STEPS = Number(process.argv[2] ?? WHOLE);
const LONG = longRun(STEPS);
const LEG = LONG.leg;
const BOUND = 0.02;
setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

interface Sample {
  readonly step: number;
  readonly ledger: number;
  readonly buffers: number;
  readonly heap: number;
  readonly resident: number;
}

/** The samples after warm-up: the first quarter, at whose end the first layer freezes. */
const warm = (samples: readonly Sample[]): readonly Sample[] => samples.slice(Math.ceil(samples.length / 4));

/** By how much a figure grew: the median of the last third of the samples over that of the first third. */
function growth(samples: readonly Sample[], of: (sample: Sample) => number): number {
  const figures = warm(samples).map(of);
  const third = Math.max(1, Math.floor(figures.length / 3));
  return median(figures.slice(-third)) / median(figures.slice(0, third)) - 1;
}

/** How far single samples lie from the median: what the collector and the allocator happen to hold. */
function jitter(samples: readonly Sample[], of: (sample: Sample) => number): number {
  const figures = warm(samples).map(of);
  return Math.max(0, ...figures.map((figure) => Math.abs(figure / median(figures) - 1)));
}

/** Whether what the ledger counts only fell, as it does when layers freeze. */
const neverGrew = (samples: readonly Sample[]): boolean =>
  warm(samples).every(({ ledger }, i, all) => ledger <= (all[i - 1]?.ledger ?? Infinity));

/** Whether the same tensors held as many buffers whenever they were looked at. */
function sameBuffers(samples: readonly Sample[]): boolean {
  const counts = new Map(samples.map(({ ledger, buffers }) => [ledger, buffers]));
  return samples.every(({ ledger, buffers }) => counts.get(ledger) === buffers);
}

/** The same run, a process for every leg. */
async function inLegs(): Promise<number[]> {
  const folder = mkdtempSync(join(tmpdir(), "safetape-soak-"));
  try {
    for (let until = LEG; until <= STEPS; until += LEG) {
      const args = ["--enable-source-maps", process.argv[1]!, String(STEPS), String(until), folder];
      await promisify(execFile)(process.execPath, args);
      process.stderr.write(`legs: ${until} of ${STEPS} steps\n`);
    }
    return JSON.parse(readFileSync(join(folder, "losses.json"), "utf8")) as number[];
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function leg(engine: Engine, until: number, folder: string): Promise<void> {
  const losses = await trainUntil(
    engine,
    until,
    await openDirectory(join(folder, "checkpoints"), { create: true }),
    LONG,
  );
  writeFileSync(join(folder, "losses.json"), JSON.stringify(losses));
}

async function soak(engine: Engine): Promise<void> {
  const samples: Sample[] = [];
  const inOne = trainUntil(engine, STEPS, memoryDirectory("whole"), LONG, (trainer) => {
    collect();
    const { heapUsed: heap } = process.memoryUsage();
    const { liveBytes: ledger, buffers } = engine.ledger;
    samples.push({ step: trainer.progress.step, ledger, buffers, heap, resident: residentBytes() });
    process.stderr.write(`whole: ${trainer.progress.step} of ${STEPS} steps\n`);
  });
  const [whole, legs] = await Promise.all([inOne, inLegs()]);
  const isEqual = legs.length === whole.length && legs.every((loss, i) => Object.is(loss, whole[i]));
  const figures = { heap: ({ heap }: Sample) => heap, resident: ({ resident }: Sample) => resident };
  const flat = Object.entries(figures).map(([name, of]) => {
    return { name, growth: growth(samples, of), jitter: jitter(samples, of) };
  });
  const broken = flat.flatMap(({ name, growth: by }) => (by <= BOUND ? [] : [`${name} grew by ${by}`]));
  if (!neverGrew(samples)) broken.push("the ledger grew");
  if (!sameBuffers(samples)) broken.push("the number of GPU buffers changed");
  if (!isEqual) broken.push("losses in legs differ from those of one run");
  console.table(samples);
  console.table(flat);
  console.log({ steps: STEPS, seed: SEED, isEqual, broken });
  const told = { seed: SEED, steps: STEPS, leg: LEG, isEqual, flat, samples };
  if (STEPS === WHOLE) await writeResults(engine, "soak", told);
  process.exitCode = broken.length > 0 ? 1 : 0;
}

const [, program = "", , until, folder] = process.argv;
if (Object.keys(MALLOC).some((name) => process.env[name] === undefined)) {
  const args = ["--enable-source-maps", program, ...process.argv.slice(2)];
  const { status } = spawnSync(process.execPath, args, { env: { ...process.env, ...MALLOC }, stdio: "inherit" });
  process.exit(status ?? 1);
}
await main("soak", (engine) => (folder === undefined ? soak(engine) : leg(engine, Number(until), folder)));
