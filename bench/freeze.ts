// Imported, and so part of the program that runs without a checkout.
import demo from "../examples/model/config.json";
import { lora } from "../src/adapter/lora";
import { Random } from "../src/base/random";
import { Batches } from "../src/data/batches";
import type { Engine } from "../src/engine";
import { initialiseModel } from "../src/io/load-model";
import type { LoadedModel } from "../src/io/load-model";
import { Trainer } from "../src/train/trainer";
import type { StepReport } from "../src/train/loop/reports";
import { hasTimeFor } from "./support/deadline";
import { main } from "./support/main";
import { tensorsBelow } from "./support/model";
import { median, report, round, writeResults } from "./support/results";

const ROWS = 32;
const LENGTH = 40;
const BATCHES = 2;

/** Models, with their layers, the numbers of layers that are cached, and the rounds of steps. */
const MODELS = [
  ["demo", 4, [2, 3], 21],
  ["demo's width, 12 layers", 12, [6, 11], 9],
] as const;

/** Rounds that are timed even past the bench's deadline. */
const FEWEST_ROUNDS = 3;

/** One way to train the model: the number of lowest layers frozen, and a further saving that their freezing allows. */
interface Setting {
  readonly frozen: number;
  readonly option: "" | "cached" | "merged";
}

/** A run and its measurements. Times are those of each timed step. */
interface Run extends Setting {
  readonly trainer: Trainer;
  readonly steps: AsyncGenerator<StepReport, void, undefined>;
  readonly seconds: number[];
  readonly cpuSeconds: number[];
  flops: number;
}

/**
 * Compares a LoRA step with its lowest layers frozen to one with all layers live, and to the limit set by the remaining
 * work: of the 4 N T FLOPs of a layer, a frozen layer saves 2 N T (its backward pass) and a cached one all 4 N T. Steps are
 * interleaved. Times are CPU times of all threads of the process. Other programs disturb them less than wall time, but they
 * do, so the limit is compared with both the ratio of the fastest steps and the median of the ratios within rounds.
 */
export async function freeze(engine: Engine): Promise<void> {
  const rows = [];
  for (const [i, [name, layers, cached, rounds]] of MODELS.entries()) {
    if (!hasTimeFor(`freezing, ${name}`)) continue;
    await writeResults(
      engine,
      "freeze",
      rows,
      MODELS.slice(i).map(([model]) => model),
    );
    // All settings share the model. Merging in one of them changes the losses of the others, but not their work.
    using model = await initialiseModel(engine, { ...demo, num_hidden_layers: layers });
    const settings = [
      ...[0, 1 / 4, 1 / 2, 3 / 4].map((share) => ({ frozen: share * layers, option: "" as const })),
      { frozen: (3 / 4) * layers, option: "merged" as const },
      ...cached.map((frozen) => ({ frozen, option: "cached" as const })),
    ];
    rows.push(...(await measure(model, settings, rounds)).map((row) => ({ model: name, ...row })));
  }
  await report(engine, "freeze", rows);
}

async function measure(
  model: LoadedModel,
  settings: readonly Setting[],
  rounds: number,
): Promise<Record<string, unknown>[]> {
  const runs: Run[] = [];
  for (const setting of settings) {
    const trainer = await makeTrainer(model, setting, BATCHES + rounds);
    runs.push({ ...setting, trainer, steps: trainer.steps(), seconds: [], cpuSeconds: [], flops: 0 });
  }
  try {
    for (let i = -BATCHES; i < rounds; i++) {
      if (i >= FEWEST_ROUNDS && !hasTimeFor(`rounds of ${model.model.layers} layers after ${i}`)) break;
      for (const run of runs) await takeStep(run, i >= 0);
    }
  } finally {
    for (const { trainer } of runs) trainer.dispose();
  }
  const allLive = runs[0]!;
  return runs.map(({ frozen, option, seconds, cpuSeconds, flops }) => {
    const share = frozen / model.model.layers;
    const limit = option === "cached" ? 1 - share : 1 - share / 2;
    const over = (ratio: number) => round(100 * (ratio / limit - 1));
    const fastest = Math.min(...cpuSeconds) / Math.min(...allLive.cpuSeconds);
    const ratios = (times: readonly number[], base: readonly number[]) => times.map((time, i) => time / base[i]!);
    const middle = median(ratios(cpuSeconds, allLive.cpuSeconds));
    return {
      frozen: `${frozen} of ${model.model.layers}`,
      option,
      limit: round(limit),
      "FLOPs ratio": round(flops / allLive.flops),
      "CPU ratio, fastest": round(fastest),
      "over %": over(fastest),
      "CPU ratio, median": round(middle),
      "median over %": over(middle),
      "clock ratio, median": round(median(ratios(seconds, allLive.seconds))),
      "CPU ms": round(1000 * Math.min(...cpuSeconds)),
      "clock ms": round(1000 * Math.min(...seconds)),
    };
  });
}

async function makeTrainer(model: LoadedModel, { frozen, option }: Setting, steps: number): Promise<Trainer> {
  const random = new Random(1);
  const samples = Array.from({ length: BATCHES * ROWS }, (_, i) => ({
    ids: Int32Array.from({ length: LENGTH }, () => 5 + random.below(model.model.vocabularySize - 5)),
    label: i % 2,
  }));
  const trainer = await Trainer.create({
    model,
    adapter: lora({ rank: 4, alpha: 16 }),
    data: new Batches(samples, { size: ROWS }),
    steps,
    schedule: { type: "constant" },
    dropout: false,
    prefixCache: option === "cached",
    mergeOnFreeze: option === "merged",
  });
  if (frozen > 0) await trainer.freeze(tensorsBelow(trainer, frozen));
  return trainer;
}

/** Takes a step. Steps of the first epoch compile kernels and fill caches, and are not timed. */
async function takeStep(run: Run, isTimed: boolean): Promise<void> {
  const cpuBefore = process.cpuUsage();
  const { value } = await run.steps.next();
  const { user, system } = process.cpuUsage(cpuBefore);
  if (!value) throw new Error("The run ended early.");
  run.flops = value.flops;
  if (!isTimed) return;
  if (run.option === "cached" && value.prefix?.hits !== value.prefix?.parts)
    throw new Error("A cached step computed its prefix.");
  run.seconds.push(value.seconds);
  run.cpuSeconds.push((user + system) / 1e6);
}

await main("freeze", freeze);
