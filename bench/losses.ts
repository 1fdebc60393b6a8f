import { isDeepStrictEqual } from "node:util";
import { lora } from "../src/adapter/lora";
import { Random } from "../src/base/random";
import { Batches } from "../src/data/batches";
import type { Engine } from "../src/engine";
import { safe } from "../src/freeze/safe";
import { initialiseModel } from "../src/io/load-model";
import { Trainer } from "../src/train/trainer";
import type { TrainerOptions } from "../src/train/options";
import { DeviceLosses } from "../test/support/device-losses";
import { main } from "./support/main";
import { bertConfig } from "./support/model";
import { adapterName, median, round, writeResults } from "./support/results";

const [LOSSES, SEED, STEPS, EVERY] = [50, 1, 12, 4];
const CONFIG = { ...bertConfig(2, 64), hidden_size: 16, num_attention_heads: 2, intermediate_size: 32 };

interface RunOptions {
  readonly recover: TrainerOptions["recover"];
  /** Called right before the first step. */
  readonly onStart?: () => void;
}

interface Outcome {
  /** Number of calls of the device from the first step to the last one. */
  readonly calls: number;
  /** Losses, freezes, evaluations and final weights. */
  readonly end: unknown;
  readonly seconds: number;
}

/** Loads a model and trains it to the end. */
async function run(watched: DeviceLosses, engine: Engine, { recover, onStart }: RunOptions): Promise<Outcome> {
  const random = new Random(7);
  const samples = Array.from({ length: 24 }, (_, i) => ({
    ids: Int32Array.from({ length: 4 + random.below(12) }, () => 5 + random.below(900)),
    label: i % 2,
  }));
  using model = await initialiseModel(engine, CONFIG);
  using trainer = await Trainer.create({
    model,
    adapter: lora({ rank: 2, dropout: 0.1 }),
    data: new Batches(samples, { size: 4, seed: 5 }),
    steps: STEPS,
    seed: 3,
    policy: safe({ every: 3, maxWarmup: 2 }),
    ...(recover !== undefined && { recover }),
  });
  onStart?.();
  const callsBefore = watched.calls;
  const start = performance.now();
  const evaluations: number[] = [];
  for await (const { step } of trainer.steps()) {
    if (step % 5 === 0)
      evaluations.push((await trainer.evaluate(new Batches(samples, { size: 8 }).restOfEpoch())).loss);
  }
  const [seconds, calls] = [(performance.now() - start) / 1000, watched.calls - callsBefore];
  const weights = [...(await trainer.snapshot())].map(([name, { data }]) => [name, [...data]]);
  const { losses, freezes } = trainer.history;
  return { calls, seconds, end: { losses: [...losses], freezes, evaluations, weights } };
}

// Destroys the device at random moments of runs, right after a call that creates or compiles something, uploads, submits or
// waits, and checks that the recovered runs end with the same bits.
await main("losses", async (engine) => {
  const watched = new DeviceLosses(engine);
  const reopen = engine.reopen.bind(engine);
  engine.reopen = async (lost) => {
    await reopen(lost);
    watched.watchDevice();
  };
  const recover = { every: EVERY };
  await run(watched, engine, { recover });
  const { end, calls } = await run(watched, engine, { recover });
  const random = new Random(SEED);
  const seconds: number[] = [];
  let survived = 0;
  for (let i = 0; i < LOSSES; i++) {
    const outcome = await run(watched, engine, {
      recover,
      onStart: () => watched.destroyAfter(1 + random.below(calls)),
    });
    seconds.push(outcome.seconds);
    if (isDeepStrictEqual(outcome.end, end)) survived++;
    else console.error(`lost after ${watched.after.at(-1)}: the run ended differently`);
  }
  const counts: Record<string, number> = {};
  for (const name of watched.after) counts[name] = (counts[name] ?? 0) + 1;
  const held: number[] = [];
  const without: number[] = [];
  for (let i = 0; i < 9; i++) {
    held.push((await run(watched, engine, { recover: { every: 1 } })).seconds);
    without.push((await run(watched, engine, { recover: false })).seconds);
  }
  const summary = {
    seed: SEED,
    stepsOfARun: STEPS,
    stateHeldEvery: EVERY,
    callsOfARun: calls,
    losses: watched.after.length,
    after: counts,
    survivedToTheBit: survived,
    medianSecondsOfALostRun: round(median(seconds)),
    millisecondsToHoldTheState: round((1000 * (median(held) - median(without))) / STEPS),
  };
  console.table(summary);
  console.error(`${adapterName(engine)}: ${survived} of ${watched.after.length} losses survived to the bit`);
  await writeResults(engine, "losses", summary);
  process.exitCode = survived === LOSSES && watched.after.length === LOSSES ? 0 : 1;
});
