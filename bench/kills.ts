import { spawn } from "node:child_process";
import { cp, mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { lora } from "../src/adapter/lora";
import { Random } from "../src/base/random";
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
/** Shares of the kills that come early, perhaps before the first step, and that wait for a half-written file. */
const [EARLY, IN_A_SAVE] = [0.2, 0.4];
/** Early kills come within this time, which is longer than a process takes to its first step. */
const EARLY_MS = 3000;
const CONFIG = { ...bertConfig(2, 64), hidden_size: 16, num_attention_heads: 2, intermediate_size: 32 };

/** The run that is killed: dropout, varying lengths, freezes by SAFE and, with a folder, a checkpoint after every step. */
async function makeTrainer(engine: Engine, folder: string | undefined) {
  const random = new Random(7);
  const samples = Array.from({ length: 24 }, (_, i) => ({
    ids: Int32Array.from({ length: 4 + random.below(12) }, () => 5 + random.below(900)),
    label: i % 2,
  }));
  const model = await initialiseModel(engine, CONFIG);
  const directory = folder === undefined ? undefined : await openDirectory(folder, { create: true });
  return Trainer.create({
    model,
    adapter: lora({ rank: 2, dropout: 0.1 }),
    data: new Batches(samples, { size: 4, seed: 5 }),
    steps: STEPS,
    seed: 3,
    policy: safe({ every: 4, maxWarmup: 2 }),
    ...(directory && { checkpoints: { directory, every: 1, resume: true } }),
  });
}

/** Trains to the end. Returns losses, freezes and the bytes of all tensors as one string. */
async function finish(engine: Engine, folder?: string): Promise<string> {
  using trainer = await makeTrainer(engine, folder);
  using model = trainer.options.model;
  await trainer.train();
  const tensors: string[] = [`weights of ${model.source}`];
  for (const name of trainer.state.persistent.keys()) {
    const { buffer } = await trainer.state.tensor(name).read();
    tensors.push(`${name} ${Buffer.from(buffer).toString("base64")}`);
  }
  const { losses, freezes } = trainer.history;
  return JSON.stringify({ losses, freezes: freezes.map(({ step, tensors }) => ({ step, tensors })), tensors });
}

interface Kill {
  /** Whether a half-written file was left behind. */
  readonly inSave: boolean;
  /** Steps of the latest checkpoint that remained; undefined if there was none. */
  readonly step: number | undefined;
  /** Whether the run, resumed from that checkpoint, ended with the expected bits. */
  readonly isIdentical: boolean;
}

/** Starts the training process on a folder and kills it. Returns false if it ended before it was killed. */
async function kill(folder: string, random: Random, stepSeconds: number): Promise<boolean> {
  const child = spawn(process.execPath, [process.argv[1]!, "train", folder], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
  const stepped = new Promise((resolve) => child.stdout.once("data", resolve));
  child.stdout.on("error", () => undefined);
  const [kind, delay] = [random.uniform(), random.uniform()];
  if (kind < EARLY) await Promise.race([sleep(delay * EARLY_MS), ended]);
  else {
    await Promise.race([stepped, ended]);
    await Promise.race([sleep(delay * 1000 * stepSeconds * STEPS), ended]);
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

/** Resumes a copy of the folder after a kill and compares the end of the run. The folder itself serves the next process. */
async function checkResumed(engine: Engine, folder: string, expected: string): Promise<Kill> {
  const inSave = await hasPartial(folder);
  const copy = `${folder}-copy`;
  await cp(folder, copy, { recursive: true });
  const [step] = await checkpointSteps(await openDirectory(copy));
  const isIdentical = (await finish(engine, copy)) === expected;
  await rm(copy, { recursive: true });
  return { inSave, step, isIdentical };
}

async function killMany(engine: Engine, count: number, seed: number): Promise<Kill[]> {
  const random = new Random(seed);
  const root = await mkdtemp(join(tmpdir(), "safetape-kills-"));
  const kills: Kill[] = [];
  await finish(engine);
  const start = performance.now();
  const expected = await finish(engine, join(root, "timed"));
  const stepSeconds = (performance.now() - start) / 1000 / STEPS;
  if ((await finish(engine)) !== expected)
    throw new Error("Two uninterrupted runs differ, so killed ones cannot be compared with them.");
  let runs = 0;
  try {
    while (kills.length < count) {
      // A run is killed and resumed until it ends; then the next run begins.
      const folder = join(root, `run-${runs}`);
      await mkdir(folder, { recursive: true });
      if (await kill(folder, random, stepSeconds)) kills.push(await checkResumed(engine, folder, expected));
      else runs++;
    }
  } finally {
    await rm(root, { recursive: true, force: true });
  }
  return kills;
}

/**
 * Kills a training process at random moments and checks that the resumed runs end with the same bits.
 * `npm run bench:kills [-- KILLS SEED]`. Results are written only for the default number of kills or more.
 */
async function main(): Promise<void> {
  using engine = await createEngine();
  const [count = DEFAULT_KILLS, seed = DEFAULT_SEED] = process.argv.slice(2).map(Number);
  const start = performance.now();
  const kills = await killMany(engine, count, seed);
  const countKills = (isCounted: (kill: Kill) => boolean): number => kills.filter(isCounted).length;
  const summary = {
    seed,
    stepsOfARun: STEPS,
    kills: kills.length,
    insideASave: countKills(({ inSave }) => inSave),
    beforeTheFirstCheckpoint: countKills(({ step }) => step === undefined),
    survivedToTheBit: countKills(({ isIdentical }) => isIdentical),
    atSteps: kills.map(({ step }) => step ?? 0),
    seconds: Math.round((performance.now() - start) / 1000),
  };
  console.log(JSON.stringify(summary));
  console.error(`${adapterName(engine)}: ${summary.survivedToTheBit} of ${summary.kills} kills survived to the bit`);
  if (count >= DEFAULT_KILLS) await writeResults(engine, "kills", summary);
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
