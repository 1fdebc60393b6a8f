import * as v from "valibot";
import type { Tensors } from "../adapter/adapter";
import { NotFiniteError } from "../base/errors";
import { readPreprocessor } from "../data/preprocessor";
import { loadTokenizer } from "../data/tokenizer";
import type { Tokenizer } from "../data/tokenizer";
import type { KernelChoice } from "../gpu/tuning/tuner";
import { checkSchema } from "../io/json";
import type { Directory } from "../io/directory";
import { createEngine, loadModel, openDirectory, RunLog, saveReport } from "../node/index";
import { pngRenderer } from "../report/png";
import { saveAdapter, saveMerged, saveModel } from "../train/files";
import { Trainer } from "../train/trainer";
import {
  adapterOption,
  bytesOption,
  choiceOption,
  countOption,
  numberOption,
  policyOption,
  textOption,
} from "./options";
import type { Given } from "./options";
import { runMemory } from "./fit";
import { generateOptions } from "./generate";
import { endOfRun, runFacts } from "./run-facts";
import { Keeping } from "./keeping";
import type { Judged } from "./keeping";
import { isBetter, judge, readTask, taskHead } from "./train-data";
import { emitter } from "./view/events";
import { RunView } from "./view/run-view";
import { Screen } from "./view/screen";
import { stage } from "./view/stage";
import type { Tick } from "./view/stage";

/** `safetape train`: fine-tunes a Hugging Face directory and saves the adapter with the record of the run. */
export async function trainCommand(given: Given, print: (line: string) => void): Promise<void> {
  const task = textOption(given, "task", "--task");
  const settings = trainerSettings(given);
  const modelPath = textOption(given, "model", "--model");
  const dataPath = textOption(given, "data", "--data");
  const outPath = textOption(given, "out", "--out");
  const png = given["reportPng"] === true;
  if (png) await pngRenderer();
  const [screen, emit] = [new Screen(given["quiet"] === true), emitter(given["json"] === true, print)];
  const watched = <T>(what: string, work: (tick: Tick) => Promise<T>): Promise<T> => stage(screen, emit, what, work);
  using engine = await createEngine();
  const tokenizer = async () => loadTokenizer(await openDirectory(modelPath));
  const head = await taskHead(task, dataPath);
  const adapter = adapterOption(given, await promptIds(given, tokenizer));
  const { weights, batch, ...memory } = await runMemory(given, modelPath, head, adapter);
  const loading = weights === "f32" ? "loading weights" : `loading weights and storing them as ${weights}`;
  using loaded = await watched(loading, (tick) => loadModel(engine, modelPath, { ...head, weights, onProgress: tick }));
  const { model } = loaded;
  const maxLength = Math.min(model.maxLength, countOption(given, "maxLength", "--max-length", 128));
  const preprocessor = async () => readPreprocessor(await openDirectory(modelPath));
  const keeping = await Keeping.open(given, outPath);
  const data = await watched("reading data", () =>
    readTask(task, { path: dataPath, model, maxLength, tokenizer, preprocessor }),
  );
  if (data.truncated > 0) process.stderr.write(`${data.truncated} examples were cut to ${maxLength} tokens\n`);
  if (data.dropped) process.stderr.write(`${data.dropped} examples have no answer within ${maxLength}: left out\n`);
  if (loaded.unused.length > 0) process.stderr.write(`not of this model: ${someOf(loaded.unused)}\n`);
  if (loaded.initialised.length > 0) process.stderr.write(`new in this run: ${loaded.initialised.join(", ")}\n`);
  const batches = data.train(batch, settings.seed);
  using trainer = await watched("planning the run", () =>
    Trainer.create({ model: loaded, adapter, data: batches, ...settings, ...memory, ...keeping.options }),
  );
  if (given["explain"]) process.stderr.write(`${trainer.explain().toString()}\n${describeKernels(engine.kernels)}`);
  const out = await openDirectory(outPath, { create: true });
  const writing = given["generate"] ? { ...generateOptions(given), ngramsOf: "answer" as const } : undefined;
  const check = new Checkpoints(trainer, (isLast) =>
    watched("evaluating", (tick) => judge(trainer, task, data, batch, { tick, ...(isLast && writing && { writing }) })),
  );
  const log = new RunLog();
  const view = new RunView(screen, emit, trainer.state.specs);
  emit({ type: "start", task, ...startOf(trainer) });
  keeping.begin(trainer, check);
  for (const report of keeping.reports) log.add(report);
  await keeping.watch(() => walk(trainer, given, out, { check, log, view, keeping }));
  const metrics = await check.finish();
  await save(trainer, out);
  const { evaluations } = check;
  const record = log.record(trainer, { task, metrics, evaluations, ...(await runFacts(given, task)) });
  await watched("drawing the report", () => saveReport(out, record, { png }));
  await keeping.end();
  endOfRun(record, outPath, emit, given["json"] === true ? undefined : print);
}

function startOf(trainer: Trainer) {
  const { model: loaded, adapter, policy } = trainer.options;
  const { totalSteps, stepsPerEpoch } = trainer.progress;
  const { description, device, vendor } = loaded.engine.info;
  return {
    model: loaded.source,
    adapter: adapter.kind,
    policy: policy?.name ?? "never",
    gpu: description || device || vendor,
    layers: loaded.model.layers,
    totalSteps,
    stepsPerEpoch,
  };
}

/** Tokens that a prompt is to begin with, without the special ones around a whole text. */
async function promptIds(given: Given, tokenizer: () => Promise<Tokenizer>): Promise<number[] | undefined> {
  if (given["promptText"] === undefined) return undefined;
  const text = textOption(given, "promptText", "--prompt-text");
  return [...(await tokenizer()).encode(text, undefined, { specialTokens: false }).ids];
}

const describeKernels = (kernels: readonly KernelChoice[]): string =>
  kernels.map(({ shape, chosen, how }) => `${shape}: ${chosen} (${how})\n`).join("");

const someOf = (names: readonly string[]): string =>
  names.length > 4 ? `${names.slice(0, 3).join(", ")} and ${names.length - 3} more` : names.join(", ");

/** Who hears of every step. */
interface Walk {
  readonly check: Checkpoints;
  readonly log: RunLog;
  readonly view: RunView;
  readonly keeping: Keeping;
}

async function walk(
  trainer: Trainer,
  given: Given,
  out: Directory,
  { check, log, view, keeping }: Walk,
): Promise<void> {
  const every = given["evalEvery"] === undefined ? Infinity : countOption(given, "evalEvery", "--eval-every");
  try {
    for await (const report of trainer.steps({ ahead: every === Infinity })) {
      keeping.reports.push(report);
      log.add(report);
      view.show(report);
      const { step, totalSteps } = report;
      if (step % every === 0 && step < totalSteps) view.evaluated(step, await check.look(step));
      if (keeping.isStopping) await keeping.stop(trainer);
    }
  } catch (error) {
    // What was learnt up to the last good step is not lost.
    if (error instanceof NotFiniteError) await save(trainer, out);
    throw error;
  } finally {
    view.stop();
  }
}

/** JSON has no NaN. */
const METRIC = v.pipe(
  v.nullable(v.number()),
  v.transform((value) => value ?? NaN),
);
const METRICS = v.record(v.string(), METRIC);
const JUDGED = v.strictObject({
  evaluations: v.array(v.strictObject({ step: v.number(), metrics: METRICS })),
  best: v.optional(METRICS),
});

/** Evaluations of a run; keeps the trained tensors of the best one, and ends with them. */
class Checkpoints implements Judged {
  evaluations: { readonly step: number; readonly metrics: Record<string, number> }[] = [];
  #best: { readonly metrics: Record<string, number>; readonly tensors: Tensors } | undefined;

  constructor(
    private readonly trainer: Trainer,
    private readonly judge: (isLast: boolean) => Promise<Record<string, number>>,
  ) {}

  save() {
    const { evaluations } = this;
    return { record: { evaluations, best: this.#best?.metrics }, tensors: this.#best?.tensors ?? new Map() };
  }

  restore(record: unknown, tensors: Tensors): void {
    const { evaluations, best } = checkSchema(JUDGED, record, "a checkpoint's evaluations");
    this.evaluations = evaluations;
    this.#best = best && { metrics: best, tensors };
  }

  /** Evaluates now. */
  async look(step: number): Promise<Record<string, number>> {
    const metrics = await this.judge(false);
    this.evaluations.push({ step, metrics });
    if (!this.#best || isBetter(metrics, this.#best.metrics)) {
      this.#best = { metrics, tensors: await this.trainer.snapshot() };
    }
    return metrics;
  }

  /** Evaluates the last step, and goes back to the best one if that was another. */
  async finish(): Promise<Record<string, number>> {
    const hadOthers = this.evaluations.length > 0;
    if (!hadOthers || !this.#best) return this.judge(true);
    if (isBetter(this.#best.metrics, await this.judge(false))) this.trainer.state.restore(this.#best.tensors);
    return this.judge(true);
  }
}

function save(trainer: Trainer, out: Directory): Promise<void> {
  const { adapter, model, policy } = trainer.options;
  if (adapter.trainsInPlace) return saveModel(out, model);
  // What is pruned is no part of an adapter.
  return policy?.kind === "structure_pruning" ? saveMerged(out, trainer) : saveAdapter(out, trainer);
}

/** How a run is trained, as the command line says. */
export function trainerSettings(given: Given) {
  const budget = bytesOption(given, "memoryBudget", "--memory-budget");
  const cached = bytesOption(given, "prefixCache", "--prefix-cache");
  return {
    epochs: numberOption(given, "epochs", "--epochs", 3),
    seed: countOption(given, "seed", "--seed", 0, 0),
    policy: policyOption(given),
    optimizer: {
      learningRate: numberOption(given, "lr", "--lr", 1e-3),
      weightDecay: numberOption(given, "weightDecay", "--weight-decay", 0),
      maxGradNorm: numberOption(given, "maxGradNorm", "--max-grad-norm", 1),
    },
    schedule: {
      type: choiceOption(given, "schedule", "--schedule", ["linear", "cosine", "constant"], "linear"),
      warmupRatio: numberOption(given, "warmupRatio", "--warmup-ratio", 0),
    },
    onNotFinite: choiceOption(given, "onNotFinite", "--on-not-finite", ["stop", "skip"] as const, "stop"),
    labelSmoothing: numberOption(given, "labelSmoothing", "--label-smoothing", 0),
    ...(budget === undefined ? {} : { memoryBudget: budget }),
    ...(cached === undefined ? {} : { prefixCache: { bytes: cached } }),
    ...(given["withoutDropout"] === true ? { dropout: false } : {}),
    ...(given["mergeOnFreeze"] === true ? { mergeOnFreeze: true } : {}),
  };
}
