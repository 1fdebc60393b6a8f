import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { provenance } from "../scripts/provenance.mjs";
import { lora } from "../src/adapter/lora";
import { Random } from "../src/base/random";
import { Batches } from "../src/data/batches";
import { safe } from "../src/freeze/safe";
import { initialiseModel } from "../src/io/load-model";
import { createEngine } from "../src/node/index";
import { Trainer } from "../src/train/trainer";
import { drivers } from "./support/drivers";
import { adapterName, round } from "./support/results";

const [STEPS, SEED, LENGTH] = [40, 1, 16];
const CONFIG = {
  model_type: "bert",
  vocab_size: 500,
  hidden_size: 64,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  intermediate_size: 256,
  max_position_embeddings: LENGTH,
  num_labels: 2,
};

/** The outcome of one run. */
interface Outcome {
  readonly adapter: string;
  readonly driver: string;
  readonly losses: readonly number[];
  readonly freezes: readonly string[];
  readonly tensors: readonly (readonly [name: string, values: readonly number[]])[];
}

/** Trains a small BERT for a few steps with SAFE and dropout, on the GPU adapter of this process. */
async function run(): Promise<Outcome> {
  using engine = await createEngine();
  using model = await initialiseModel(engine, CONFIG);
  const random = new Random(SEED);
  const ids = (): Int32Array => Int32Array.from({ length: LENGTH }, () => random.below(CONFIG.vocab_size));
  const samples = Array.from({ length: 64 }, (_, i) => ({ ids: ids(), label: i % 2 }));
  using trainer = await Trainer.create({
    model,
    adapter: lora({ rank: 4, alpha: 16, dropout: 0.1 }),
    data: new Batches(samples, { size: 8 }),
    steps: STEPS,
    seed: SEED,
    optimizer: { learningRate: 2e-3 },
    policy: safe({ every: 5, targetFreezeFraction: 0.5 }),
  });
  const { losses, freezes } = await trainer.train();
  const tensors = [...(await trainer.snapshot())].map(([name, { data }]) => [name, [...data]] as const);
  const freezeLines = freezes.map(({ step, tensors: names }) => `${step}: ${names.join(" ")}`);
  return { adapter: adapterName(engine), driver: engine.info.description, losses, freezes: freezeLines, tensors };
}

/** Trains in a separate process, on the driver that the environment variables `env` select. */
function outcomeOn(env: Record<string, string>, folder: string): Outcome {
  const file = join(folder, "outcome.json");
  const args = ["--enable-source-maps", process.argv[1]!, "run", file];
  execFileSync(process.execPath, args, { env: { ...process.env, ...env }, stdio: ["ignore", "inherit", "inherit"] });
  // Written by this program's mode "run".
  return JSON.parse(readFileSync(file, "utf8")) as Outcome;
}

const norm = (values: readonly number[]): number => Math.hypot(...values);

/** Largest relative differences of losses and of trained tensors, and whether the same tensors froze at the same steps. */
function difference(one: Outcome, other: Outcome) {
  const losses = one.losses.map((loss, i) => Math.abs(loss - (other.losses[i] ?? NaN)) / Math.abs(loss));
  const otherTensors = new Map(other.tensors);
  const tensors = one.tensors.map(([name, values]) => {
    const otherValues = otherTensors.get(name) ?? [];
    return norm(values.map((value, i) => value - (otherValues[i] ?? NaN))) / norm(values);
  });
  return {
    one: one.adapter,
    other: other.adapter,
    "loss, largest relative difference": round(Math.max(...losses)),
    "tensors, largest relative difference of norms": round(Math.max(...tensors)),
    "same freezes": one.freezes.join() === other.freezes.join(),
  };
}

/** Trains twice on each driver, then compares the two runs of one driver, and the drivers with each other. */
async function compare(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "safetape-adapters-"));
  try {
    const outcomes = drivers().map(({ env }) => [outcomeOn(env, folder), outcomeOn(env, folder)] as const);
    const rows = outcomes.flatMap(([one, again], i) => [
      difference(one, again),
      ...outcomes.slice(i + 1).map(([other]) => difference(one, other)),
    ]);
    console.table(rows);
    const origin = provenance({
      vendor: "",
      device: outcomes.map(([{ adapter }]) => adapter).join(", "),
      description: outcomes.map(([{ driver }]) => driver).join("; "),
    });
    await mkdir("bench/results", { recursive: true });
    const contents = { ...origin, seed: SEED, steps: STEPS, config: CONFIG, results: rows };
    await writeFile("bench/results/adapters.json", `${JSON.stringify(contents, null, 1)}\n`);
    const repeated = rows.find(({ one, other }) => one === other);
    if (repeated && repeated["loss, largest relative difference"] > 0) process.exitCode = 1;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

if (process.argv[2] === "run") writeFileSync(process.argv[3]!, JSON.stringify(await run()));
else await compare();
