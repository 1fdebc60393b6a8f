import { isDeepStrictEqual } from "node:util";
import { Random } from "../src/base/random";
import { lora } from "../src/adapter/lora";
import { Batches } from "../src/data/batches";
import type { Engine } from "../src/engine";
import { safe } from "../src/freeze/safe";
import { initialiseModel } from "../src/io/load-model";
import { Trainer } from "../src/train/trainer";
import type { TrainerOptions } from "../src/train/options";
import { Losses } from "../test/support/losses";
import { main } from "./support/main";
import { bertConfig } from "./support/model";
import { adapterName, median, round, writeResults } from "./support/results";

const [LOSSES, SEED, STEPS, EVERY] = [50, 1, 12, 4];
const CONFIG = { ...bertConfig(2, 64), hidden_size: 16, num_attention_heads: 2, intermediate_size: 32 };

interface Ended {
  /** Of the device, from the first step's on to the last one's. */
  readonly calls: number;
  readonly end: unknown;
  readonly seconds: number;
}

interface Wanted {
  readonly recover: TrainerOptions["recover"];
  /** Called right before the first step. */
  readonly begun?: () => void;
}

/** A run from the loading of its model on, and everything that it ends with. */
async function run(watched: Losses, engine: Engine, { recover, begun }: Wanted): Promise<Ended> {
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
  begun?.();
  const before = watched.calls;
  const start = performance.now();
  const evaluations: number[] = [];
  for await (const { step } of trainer.steps()) {
    if (step % 5 === 0)
      evaluations.push((await trainer.evaluate(new Batches(samples, { size: 8 }).restOfEpoch())).loss);
  }
  const [seconds, calls] = [(performance.now() - start) / 1000, watched.calls - before];
  const weights = [...(await trainer.snapshot())].map(([name, { data }]) => [name, [...data]]);
  const { losses, freezes } = trainer.history;
  return { calls, seconds, end: { losses: [...losses], freezes, evaluations, weights } };
}

/**
 * `npm run bench:losses`: the device is destroyed at random moments of runs, right after a call that makes or compiles
 * something, uploads, submits or waits.
 */
await main("losses", async (engine) => {
  const watched = new Losses(engine);
  const reopen = engine.reopen.bind(engine);
  engine.reopen = async (lost) => {
    await reopen(lost);
    watched.follow();
  };
  const recover = { every: EVERY };
  await run(watched, engine, { recover });
  const { end, calls } = await run(watched, engine, { recover });
  const random = new Random(SEED);
  const seconds: number[] = [];
  let survived = 0;
  for (let i = 0; i < LOSSES; i++) {
    const found = await run(watched, engine, { recover, begun: () => watched.arm(1 + random.below(calls)) });
    seconds.push(found.seconds);
    if (isDeepStrictEqual(found.end, end)) survived++;
    else console.error(`lost after ${watched.after.at(-1)}: the run ended otherwise`);
  }
  const counts: Record<string, number> = {};
  for (const name of watched.after) counts[name] = (counts[name] ?? 0) + 1;
  const [held, without] = [[], []] as [number[], number[]];
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
