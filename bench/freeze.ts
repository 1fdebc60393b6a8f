import { readFile } from "node:fs/promises";
import { lora } from "../src/adapter/lora";
import { Random } from "../src/base/random";
import { Batches } from "../src/data/batches";
import type { Engine } from "../src/engine";
import { initialiseModel } from "../src/io/load-model";
import type { LoadedModel } from "../src/io/load-model";
import { Trainer } from "../src/train/trainer";
import type { StepReport } from "../src/train/loop/reports";
import { main } from "./support/main";
import { tensorsBelow } from "./support/model";
import { report, round } from "./support/results";

const ROWS = 32;
const LENGTH = 40;
const BATCHES = 2;

/** A way to train the same model: so many of the lowest layers frozen, and what is made of that beyond it. */
interface Setting {
  readonly frozen: number;
  readonly option: "" | "cached" | "merged";
}

interface Run extends Setting {
  readonly trainer: Trainer;
  readonly steps: AsyncGenerator<StepReport, void, undefined>;
  readonly seconds: number[];
  readonly cpu: number[];
  flops: number;
}

/**
 * A LoRA step with the lowest layers frozen beside one with all live, against what is left to do: 4 N T FLOPs of which a
 * frozen layer saves the 2 of its backward pass, and a cached one all 4. Steps are interleaved. Time is that of all the
 * process's threads, which other programs disturb less than the clock; but which still add to it:
 * so both the ratio of the fastest steps and the median of the ratios within rounds are held against the limit.
 */
export async function freeze(engine: Engine): Promise<void> {
  const demo = JSON.parse(await readFile("examples/model/config.json", "utf8")) as Record<string, unknown>;
  const rows = [];
  for (const [name, layers, cached, rounds] of [
    ["demo", 4, [2, 3], 21],
    ["demo's width, 12 layers", 12, [6, 11], 9],
  ] as const) {
    // All settings share the model: what one of them merges changes the others' losses, not their work.
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
    runs.push({ ...setting, trainer, steps: trainer.steps(), seconds: [], cpu: [], flops: 0 });
  }
  try {
    for (let i = -BATCHES; i < rounds; i++) for (const run of runs) await takeStep(run, i >= 0);
  } finally {
    for (const { trainer } of runs) trainer.dispose();
  }
  const [all] = runs as [Run, ...Run[]];
  return runs.map(({ frozen, option, seconds, cpu, flops }) => {
    const share = frozen / model.model.layers;
    const limit = option === "cached" ? 1 - share : 1 - share / 2;
    const over = (ratio: number) => round(100 * (ratio / limit - 1));
    const fastest = Math.min(...cpu) / Math.min(...all.cpu);
    const ratios = (own: readonly number[], base: readonly number[]) => own.map((time, i) => time / base[i]!);
    const middle = median(ratios(cpu, all.cpu));
    return {
      frozen: `${frozen} of ${model.model.layers}`,
      option,
      limit: round(limit),
      "FLOPs ratio": round(flops / all.flops),
      "CPU ratio, fastest": round(fastest),
      "over %": over(fastest),
      "CPU ratio, median": round(middle),
      "median over %": over(middle),
      "clock ratio, median": round(median(ratios(seconds, all.seconds))),
      "CPU ms": round(1000 * Math.min(...cpu)),
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

/** The first epoch compiles and fills caches: it does not count. */
async function takeStep(run: Run, counts: boolean): Promise<void> {
  const before = process.cpuUsage();
  const { value } = await run.steps.next();
  const { user, system } = process.cpuUsage(before);
  if (!value) throw new Error("The run ended early.");
  run.flops = value.flops;
  if (!counts) return;
  if (run.option === "cached" && value.prefix?.hits !== value.prefix?.parts)
    throw new Error("A cached step computed its prefix.");
  run.seconds.push(value.seconds);
  run.cpu.push((user + system) / 1e6);
}

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;

await main("freeze", freeze);
