import { spawn } from "node:child_process";
import { cp, mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Random } from "../src/base/random";
import { lora } from "../src/adapter/lora";
import { Batches } from "../src/data/batches";
import type { Engine } from "../src/engine";
import { safe } from "../src/freeze/safe";
import { initialiseModel } from "../src/io/load-model";
import { createEngine, openDirectory } from "../src/node/index";
import { checkpointSteps } from "../src/train/checkpoint/directory";
import { Trainer } from "../src/train/trainer";
import { bertConfig } from "./support/model";
import { adapterName, writeResults } from "./support/results";

const STEPS = 40;
const [DEFAULT_KILLS, DEFAULT_SEED] = [100, 1];
/** Shares of the kills that may come before the first step of a process, and that wait for a half-written file. */
const [EARLY, IN_A_SAVE] = [0.2, 0.4];
/** What a process takes to its first step, and more. */
const EARLY_MS = 3000;
const CONFIG = { ...bertConfig(2, 64), hidden_size: 16, num_attention_heads: 2, intermediate_size: 32 };

/** The run that is killed: dropout, lengths that vary, freezes by SAFE, a checkpoint after every step. */
async function makeTrainer(engine: Engine, folder: string | undefined) {
  const random = new Random(7);
  const samples = Array.from({ length: 24 }, (_, i) => ({
    ids: Int32Array.from({ length: 4 + random.below(12) }, () => 5 + random.below(900)),
    label: i % 2,
  }));
  const model = await initialiseModel(engine, CONFIG);
  const checkpoints = folder === undefined ? undefined : await openDirectory(folder, { create: true });
  return Trainer.create({
    model,
    adapter: lora({ rank: 2, dropout: 0.1 }),
    data: new Batches(samples, { size: 4, seed: 5 }),
    steps: STEPS,
    seed: 3,
    policy: safe({ every: 4, maxWarmup: 2 }),
    ...(checkpoints && { checkpoints, checkpointEvery: 1, resume: "auto" as const }),
  });
}

/** Everything that a run ends with, as one text. */
async function endOf(engine: Engine, folder?: string): Promise<string> {
  using trainer = await makeTrainer(engine, folder);
  using model = trainer.options.model;
  await trainer.train();
  const tensors: string[] = [`weights of ${model.source}`];
  for (const name of trainer.state.kept.keys()) {
    const { buffer } = await trainer.state.tensor(name).read();
    tensors.push(`${name} ${Buffer.from(buffer).toString("base64")}`);
  }
  const { losses, freezes } = trainer.history;
  return JSON.stringify({ losses, freezes: freezes.map(({ step, tensors }) => ({ step, tensors })), tensors });
}

interface Kill {
  /** A half-written file was left behind. */
  readonly inSave: boolean;
  /** Steps of the latest checkpoint afterwards; undefined for none. */
  readonly step: number | undefined;
  readonly isWhole: boolean;
}

/** Starts the training process on a folder and kills it; false where it ended before that. */
async function kill(folder: string, random: Random, stepSeconds: number): Promise<boolean> {
  const child = spawn(process.execPath, [process.argv[1]!, "train", folder], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
  const stepped = new Promise((resolve) => child.stdout.once("data", resolve));
  child.stdout.on("error", () => undefined);
  const [kind, moment] = [random.uniform(), random.uniform()];
  if (kind < EARLY) await Promise.race([sleep(moment * EARLY_MS), ended]);
  else {
    await Promise.race([stepped, ended]);
    await Promise.race([sleep(moment * 1000 * stepSeconds * STEPS), ended]);
  }
  const waitsForSave = kind > 1 - IN_A_SAVE;
  while (waitsForSave && child.exitCode === null && !(await hasPartial(folder))) await sleep(0);
  child.kill("SIGKILL");
  const code = await ended;
  if (code !== null && code !== 0) throw new Error(`The training process failed by itself: ${code}.`);
  return code === null;
}

const hasPartial = async (folder: string): Promise<boolean> =>
  (await readdir(folder).catch(() => [])).some((file) => file.endsWith(".partial"));

/** What is left after a kill, taken to its end by this process, while the next one goes on from the very folder. */
async function judge(engine: Engine, folder: string, expected: string): Promise<Kill> {
  const inSave = await hasPartial(folder);
  const copy = `${folder}-copy`;
  await cp(folder, copy, { recursive: true });
  const [step] = await checkpointSteps(await openDirectory(copy));
  const isWhole = (await endOf(engine, copy)) === expected;
  await rm(copy, { recursive: true });
  return { inSave, step, isWhole };
}

async function killMany(engine: Engine, kills: number, seed: number): Promise<Kill[]> {
  const random = new Random(seed);
  const root = await mkdtemp(join(tmpdir(), "safetape-kills-"));
  const found: Kill[] = [];
  await endOf(engine);
  const start = performance.now();
  const expected = await endOf(engine, join(root, "timed"));
  const stepSeconds = (performance.now() - start) / 1000 / STEPS;
  if ((await endOf(engine)) !== expected) throw new Error("The run does not repeat: there is nothing to compare with.");
  let runs = 0;
  try {
    while (found.length < kills) {
      // A run is killed again and again; one that got to its end is followed by another.
      const folder = join(root, `run-${runs}`);
      await mkdir(folder, { recursive: true });
      if (await kill(folder, random, stepSeconds)) found.push(await judge(engine, folder, expected));
      else runs++;
    }
  } finally {
    await rm(root, { recursive: true, force: true });
  }
  return found;
}

/** `npm run bench:kills [-- KILLS SEED]`; with fewer kills than by default nothing is written. */
async function main(): Promise<void> {
  using engine = await createEngine();
  const [kills = DEFAULT_KILLS, seed = DEFAULT_SEED] = process.argv.slice(2).map(Number);
  const start = performance.now();
  const found = await killMany(engine, kills, seed);
  const count = (isCounted: (kill: Kill) => boolean): number => found.filter(isCounted).length;
  const summary = {
    seed,
    stepsOfARun: STEPS,
    kills: found.length,
    insideASave: count(({ inSave }) => inSave),
    beforeTheFirstCheckpoint: count(({ step }) => step === undefined),
    survivedToTheBit: count(({ isWhole }) => isWhole),
    atSteps: found.map(({ step }) => step ?? 0),
    seconds: Math.round((performance.now() - start) / 1000),
  };
  console.log(JSON.stringify(summary));
  console.error(`${adapterName(engine)}: ${summary.survivedToTheBit} of ${summary.kills} kills survived to the bit`);
  if (kills >= DEFAULT_KILLS) await writeResults(engine, "kills", summary);
  process.exitCode = summary.survivedToTheBit === summary.kills ? 0 : 1;
}

async function train(folder: string): Promise<void> {
  using engine = await createEngine();
  using trainer = await makeTrainer(engine, folder);
  using model = trainer.options.model;
  await trainer.train(({ step }) => process.stdout.write(`${model.source} ${step}\n`));
}

if (process.argv[2] === "train") await train(process.argv[3]!);
else await main();
