import { join } from "node:path";
import * as v from "valibot";
import { startDeviation } from "../analysis/start-deviation";
import { NotFiniteError } from "../base/errors";
import type { Tokenizer } from "../data/tokenizer";
import type { KernelChoice } from "../gpu/tuning/tuner";
import type { Directory } from "../io/directory";
import { initialiseModel, loadModel } from "../io/load-model";
import type { LoadedModel } from "../io/load-model";
import { readJson } from "../io/json";
import type { ModelCard } from "../io/model-card";
import { createModel, withHead } from "../model/families";
import { openDirectory } from "../node/directory";
import { createEngine } from "../node/engine";
import { saveReport } from "../node/report";
import { versions } from "../node/versions";
import { wandbClient } from "../node/wandb";
import { RunLog } from "../report/run-log";
import type { RunFacts } from "../report/run-log";
import { pngRenderer } from "../report/png";
import { REPORT_FILE } from "../report/record";
import type { RunRecord } from "../report/record";
import { showCount } from "../report/units";
import type { Trace } from "../run/trace";
import { dpo } from "../preference/dpo";
import { describeChoice, fitMemoryBudget } from "../train/estimate/fit-memory-budget";
import type { PredictOptions } from "../train/estimate/predict";
import { saveAdapter, saveMerged, saveModel } from "../train/files";
import { Trainer } from "../train/trainer";
import type { StepsOptions } from "../train/trainer";
import { BestEvaluation } from "./best-evaluation";
import { checkApart, CONFIG_FILE, CONFIG_MARK, hasOwnConfig, removeEvents, removeResults } from "./earlier-results";
import { evaluateTask, namesOfMetrics, tryMetric } from "./evaluation";
import type { Metrics } from "./evaluation";
import {
  adapterFrom,
  dpoFrom,
  generationSettings,
  loraPlusFrom,
  taggingFrom,
  TRAIN,
  trainerSettings,
  wordNetFor,
  checkGeneration,
} from "./flags";
import { SEARCH_FILE, searchOnce, shortened } from "./learning-rate-search";
import { readOptions, UsageError, withFallbacks } from "./options";
import type { Print, RawOptions, Values } from "./options";
import { withRecipe } from "./recipes";
import { ResumableRun } from "./resumable-run";
import { drawExamples } from "./tasks/draw-examples";
import { fillingOf, objectiveOf, preprocessing, probeOf } from "./tasks/task-data";
import type { ChooseExamples, PackedRows } from "./tasks/task-data";
import { readEvaluation, readTask, taskHead } from "./tasks/tasks";
import { openTracking } from "./tracker";
import { argumentsWithoutToken, withoutToken, worldFrom } from "./world";
import type { Tracking } from "./tracker";
import { emitter } from "./view/events";
import { showProgress } from "./view/progress";
import type { ProgressView } from "./view/progress";
import { metricWords, RunView } from "./view/run-view";
import { Screen } from "./view/screen";

type TrainOptions = Values<typeof TRAIN>;

/**
 * All options of a run: what is given, what its recipe says, and defaults.
 * @throws UsageError for both `--lr` and `--lr-search`, and for a recipe that is not there.
 */
export function trainingOptions(given: RawOptions): RawOptions {
  const { lr, ...raw } = withFallbacks(TRAIN, withRecipe(given));
  if (raw["lrSearch"] === undefined) return { ...raw, lr };
  if (given["lr"] === undefined || given["lr"] === null) return raw;
  throw new UsageError("--lr and --lr-search exclude each other.", "Leave one of them out.");
}

/** `safetape train`: fine-tunes a model in a Hugging Face directory, and saves the adapter and the record of the run. */
export async function trainCommand(given: RawOptions, print: Print): Promise<void> {
  const raw = trainingOptions(given);
  const options = readOptions(TRAIN, raw);
  const { task, model: modelPath, data: path, out: outPath, reportPng: png, patience, lrSearch } = options;
  checkGeneration(options);
  trainerSettings(options.freeze, options); // Throws for wrong options before anything is loaded.
  const { fromScratch } = options;
  if (fromScratch && options.adapter !== "full") {
    throw new UsageError(
      `--from-scratch has the adapter ${options.adapter}, whose base would be random.`,
      "Give --adapter full, or leave out --from-scratch.",
    );
  }
  await checkApart(outPath, [modelPath]);
  const distributed = await worldFrom(options);
  const run = await ResumableRun.open(options, outPath);
  // Missing packages are reported now rather than after the training.
  if (png) await pngRenderer();
  if (options.reportTo?.includes("wandb")) await wandbClient();
  const wordNet = options.generate ? await wordNetFor(options.meteor) : undefined;
  const [screen, emit] = [new Screen(options.quiet), emitter(options.json, print)];
  const progress: ProgressView = (what, work) => showProgress(screen, emit, what, work);
  using engine = await createEngine();
  const preference = dpoFrom(options);
  const load = preprocessing(modelPath, options.chatTemplate);
  const tagging = taggingFrom(options);
  const head = await taskHead(task, path, tagging);
  const initial = (await promptIds(options, load.tokenizer)) ?? options.promptInit;
  adapterFrom(options, { initial }); // Throws for options that no model has.
  const config = withHead(await readJson(await openDirectory(modelPath), "config.json", CONFIG), head);
  const model = createModel(config);
  const adapter = adapterFrom(options, { initial, model });
  const groupsAt = (learningRate: number) => loraPlusFrom(options, { adapter, model, learningRate });
  groupsAt(options.lr); // Throws for an adapter without B before anything is loaded.
  const maxLength = Math.min(model.maxLength, options.maxLength);
  const length = model.image ? {} : { length: maxLength };
  const { packing, eachAnswer } = options;
  const settingsFor = (loss: PredictOptions["loss"]) =>
    memorySettings(options, { config, adapter, loss, packing, ...length });
  // What cannot run is told before the data are read. Only they tell whether tokens have weights.
  const preferences = preference && dpo(preference);
  let settings = settingsFor(preferences ?? options.loss);
  preferences?.check({ model, adapter, memory: settings.memory });
  const split = options.split === "files" ? undefined : options.split;
  const choose = trainingChooser(options);
  const filling = fillingOf(options);
  const reading = {
    model,
    maxLength,
    split,
    wordNet,
    tagging,
    dpo: preference,
    labelSmoothing: options.labelSmoothing,
    choose,
    eachAnswer,
    ...filling,
    ...load,
  };
  const data = await progress("reading data", () => readTask(task, { path, ...reading }));
  const { evalData = path, evalTask = task } = options;
  const evaluated =
    evalData === path && evalTask === task
      ? data
      : await progress("reading data to evaluate on", () =>
          readEvaluation(evalTask, { path: evalData, ...reading }, { head, data }),
        );
  const objective = objectiveOf([data, evaluated], options.loss);
  if (objective && !preferences) {
    settings = settingsFor(objective);
    objective.check({ model, adapter, memory: settings.memory });
  }
  const { weights, ...memory } = settings;
  const { metric } = options;
  const needsDevSet = Object.entries({
    "--patience": patience,
    "--lr-search": lrSearch,
    "--metric": metric,
    "--eval-every": options.evalEvery,
  }).find(([, value]) => value !== undefined)?.[0];
  if (needsDevSet !== undefined && !evaluated.dev) throw withoutDevSet(needsDevSet, evalData);
  const truncated = data.truncated + (evaluated === data ? 0 : evaluated.truncated);
  if (truncated > 0) process.stderr.write(`${truncated} examples were cut to ${maxLength} tokens\n`);
  if (data.dropped) process.stderr.write(`${data.dropped} examples left out: no answer within ${maxLength} tokens\n`);
  if (data.packed) process.stderr.write(`${packedWords(data.packed)}\n`);
  const verb = fromScratch ? "initialising" : "loading";
  const loading = weights === "f32" ? `${verb} weights` : `${verb} weights and storing them as ${weights}`;
  const loadWeights = (): Promise<LoadedModel> =>
    progress(loading, async (onProgress) => {
      const directory = await openDirectory(modelPath);
      return fromScratch
        ? initialiseModel(engine, config, { seed: options.seed, weights, directory })
        : loadModel(engine, directory, { ...head, weights, onProgress });
    });
  const prepare = async (model: LoadedModel): Promise<void> => {
    const { budget, microBatch } = memory.memory;
    const size = typeof microBatch === "number" ? microBatch / 2 : options.batch;
    for (const each of new Set([data, evaluated])) {
      if (!each.prepare) continue;
      await progress("the reference's log-probabilities", (onProgress) =>
        each.prepare!(model, { size, budget, onProgress }),
      );
    }
  };
  const optionsAt = (lr: number) => ({
    adapter,
    data: data.train(options.batch, options.seed),
    ...probeOf(data, options),
    ...trainerSettings(options.freeze, { ...options, lr }, groupsAt(lr)),
    ...lossSettings(options),
    ...(objective && { loss: objective, labelSmoothing: 0 }),
    ...memory,
  });
  const tryRate = async (rate: number): Promise<Metrics> => {
    using loaded = await loadWeights();
    await prepare(loaded);
    using trainer = await Trainer.create({ ...shortened(optionsAt(rate)), model: loaded });
    await trainer.train();
    const metrics = await evaluateTask(trainer, evalTask, evaluated, options.batch, { metric });
    screen.say(`learning rate ${rate}  ${metricWords(metrics)}`);
    return metrics;
  };
  const { learningRate, tried } = lrSearch
    ? await searchOnce(lrSearch, { path: outPath, resume: options.resume }, tryRate)
    : { learningRate: options.lr };
  using loaded = await loadWeights();
  await prepare(loaded);
  const { removedFromNames: removed } = loaded;
  if (removed.length > 0) process.stderr.write(`left out of the names of tensors: ${removed.join(", ")}\n`);
  if (loaded.unused.length > 0) process.stderr.write(`ignored tensors: ${shortList(loaded.unused)}\n`);
  if (loaded.initialised.length > 0 && !fromScratch)
    process.stderr.write(`new in this run: ${loaded.initialised.join(", ")}\n`);
  const { seed } = options;
  const deviation = adapter.stack
    ? await progress("comparing the start with the model", () =>
        startDeviation({ model: loaded, adapter, seed }, data.train(options.batch, seed).next()),
      )
    : undefined;
  using trainer = await progress("planning the run", () =>
    Trainer.create({
      ...optionsAt(learningRate),
      model: loaded,
      ...run.trainerOptions,
      ...(distributed && { distributed }),
    }),
  );
  if (metric !== undefined && evaluated.dev) await tryMetric(trainer, metric, evaluated.dev, options.batch);
  if (options.explain) process.stderr.write(`${trainer.explain().toString()}\n${describeKernels(engine.kernels)}`);
  const out = await openDirectory(outPath, { create: true });
  if (!trainer.resumed) {
    await removeResults(out, lrSearch ? [SEARCH_FILE] : []);
    if (options.tensorboard !== undefined) await removeEvents(options.tensorboard);
    await run.removeCheckpoints();
  }
  await saveConfig(out, withoutToken(raw));
  const generation = options.generate && { ...generationSettings(options), ngramsOf: "answer" as const };
  const evaluate = (isLast: boolean) =>
    progress("evaluating", (onProgress) =>
      evaluateTask(trainer, evalTask, evaluated, options.batch, {
        onProgress,
        metric,
        ...(isLast && generation && { generation }),
      }),
    );
  const evaluation = new BestEvaluation(trainer, evaluate, patience);
  const log = new RunLog();
  const view = new RunView(screen, emit, trainer.state.specs);
  emit({ type: "start", task, ...startFacts(trainer), startDeviation: deviation });
  if (deviation !== undefined) screen.say(`the start deviates from the model by ${(100 * deviation).toFixed(1)} %`);
  run.restore(trainer, evaluation);
  for (const report of run.reports) log.add(report);
  const facts = await runFacts(withoutToken(raw), options);
  const metricNames = evaluated.dev ? namesOfMetrics(evalTask, loaded.model.task, metric) : [];
  const { tensorboard, reportTo: names = [] } = options;
  const tracked = { step: trainer.progress.step, metricNames, ...facts };
  const tracking = await openTracking({ names, tensorboard, out: outPath }, tracked);
  const { evalEvery = patience === undefined ? Infinity : trainer.progress.stepsPerEpoch } = options;
  const tracedStep = Math.max(TRACED_STEP, trainer.progress.step + 1);
  const traced = options.trace ? { step: tracedStep, see: (trace: Trace) => saveTrace(out, trace, screen) } : undefined;
  await run.untilSignal(() =>
    trainSteps(trainer, out, { evalEvery, traced, card: cardOf(options) }, { run, evaluation, log, view, tracking }),
  );
  const metrics = await evaluation.finish();
  await save(trainer, out, cardOf(options, evalTask, metrics));
  const { evaluations, bestStep } = evaluation;
  await tracking.end(trainer.progress.step, metrics, evaluations);
  const record = log.record(trainer, {
    task,
    metrics,
    evaluations,
    bestStep,
    startDeviation: deviation,
    triedRates: tried,
    ...facts,
  });
  await progress("drawing the report", () => saveReport(out, record, { png }));
  await run.removeCheckpoints();
  const report = join(outPath, REPORT_FILE);
  const { parameters, peakBytes, endBytes = peakBytes, seconds } = record;
  emit({ type: "end", metrics, parameters, peakBytes, endBytes, seconds, out: outPath, report });
  if (!options.json) print(`${resultWords(record)}${parameterWords(record)}  saved in ${outPath}, report in ${report}`);
}

/** What a run came to: its metrics or, without a dev set, the loss of its last step. */
function resultWords({ metrics, steps }: RunRecord): string {
  if (Object.keys(metrics).length > 0) return metricWords(metrics);
  const last = steps.at(-1);
  return last ? `training loss ${last.loss.toFixed(4)}, no dev set` : "no step, no dev set";
}

function parameterWords({ parameters }: RunRecord): string {
  if (!parameters) return "";
  const { trained, averageLive } = parameters;
  return `  ${showCount(trained)} trained parameters, ${showCount(averageLive)} on average`;
}

const packedWords = ({ texts, rows, filled }: PackedRows): string =>
  `${texts} texts packed into ${rows} rows, ${(100 * filled).toFixed(1)} % of which are not padding`;

const CONFIG = v.record(v.string(), v.unknown());

/**
 * Formats, recomputation and micro-batch of a run: as the options say or, with `--fit`, such that the run fits into
 * `--memory-budget`. That choice is printed on stderr.
 * @throws UsageError for `--fit` without a budget, MemoryBudgetError with the smallest budget that suffices.
 */
function memorySettings(
  options: TrainOptions,
  planned: Pick<PredictOptions, "config" | "adapter" | "length" | "loss" | "packing">,
) {
  const { weights, activations, recompute, accumulate, memoryBudget } = options;
  // A pair of answers is two rows.
  const rowsTogether = typeof planned.loss === "object" ? planned.loss.rowsTogether : 1;
  const batch = options.batch * rowsTogether;
  const microBatch = options.microBatch && options.microBatch * rowsTogether;
  const budget = memoryBudget === undefined ? {} : { budget: memoryBudget };
  if (!options.fit) {
    const memory = { activations, recompute, ...(microBatch !== undefined && { microBatch }), ...budget };
    return { weights, accumulate, memory };
  }
  if (memoryBudget === undefined) {
    throw new UsageError("--fit has no budget.", "Give one with --memory-budget, for example 8GB.");
  }
  const choice = fitMemoryBudget({ ...planned, batch }, memoryBudget);
  if (!options.quiet) process.stderr.write(`to fit into ${memoryBudget} bytes: ${describeChoice(choice)}\n`);
  const memory = { ...choice.memory, microBatch: "fit" as const, ...budget };
  return { weights: choice.weights, accumulate, memory };
}

/** Chooses as many training examples as the options say. */
function trainingChooser({ task, examples: count }: TrainOptions): ChooseExamples {
  return (part, examples, labelOf = () => undefined) => {
    if (part !== "train" || count === undefined) return examples;
    const remedy = "Give a smaller --examples, or leave it out.";
    return drawExamples(task, { examples, labels: examples.map(labelOf) }, { count, remedy });
  };
}

/** Settings of the trainer that the analyses do not have. */
function lossSettings({ onNotFinite, labelSmoothing = 0, prefixCache, mergeOnFreeze }: TrainOptions) {
  return {
    onNotFinite,
    labelSmoothing,
    ...(prefixCache !== undefined && { prefixCache: { bytes: prefixCache } }),
    ...(mergeOnFreeze && { mergeOnFreeze }),
  };
}

/** Tokens of `--prompt-text`, without special tokens; undefined if it is not given. */
async function promptIds(
  { promptText }: TrainOptions,
  tokenizer: () => Promise<Tokenizer>,
): Promise<number[] | undefined> {
  if (promptText === undefined) return undefined;
  return [...(await tokenizer()).encode(promptText, undefined, { specialTokens: false }).ids];
}

/** The error of an option that needs a dev set. */
export const withoutDevSet = (option: string, path: string): UsageError =>
  new UsageError(`${option} needs a dev set, and ${path} has none.`, "Add its file, or leave the option out.");

function startFacts(trainer: Trainer) {
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

const describeKernels = (kernels: readonly KernelChoice[]): string =>
  kernels.map(({ shape, chosen, how }) => `${shape}: ${chosen} (${how})\n`).join("");

const shortList = (names: readonly string[]): string =>
  names.length > 4 ? `${names.slice(0, 3).join(", ")} and ${names.length - 3} more` : names.join(", ");

/** Receives the report of every step. */
interface Listeners {
  readonly run: ResumableRun;
  readonly evaluation: BestEvaluation;
  readonly log: RunLog;
  readonly view: RunView;
  readonly tracking: Tracking;
}

async function trainSteps(
  trainer: Trainer,
  out: Directory,
  { evalEvery, traced, card }: { readonly evalEvery: number; readonly card: ModelCard } & Pick<StepsOptions, "traced">,
  { run, evaluation, log, view, tracking }: Listeners,
): Promise<void> {
  try {
    if (evaluation.isDone()) return;
    for await (const report of trainer.steps({ ahead: evalEvery === Infinity, traced })) {
      run.reports.push(report);
      log.add(report);
      view.show(report);
      await tracking.add(report);
      const { step, totalSteps } = report;
      if (step % evalEvery === 0 && step < totalSteps) {
        const metrics = await evaluation.evaluateStep(step);
        view.evaluated(step, metrics);
        await tracking.evaluated(step, metrics);
      }
      if (run.isStopping) await run.stop(trainer);
      if (!evaluation.isDone()) continue;
      view.stoppedEarly(step, evaluation.bestStep);
      break;
    }
  } catch (error) {
    // The weights of the last good step are worth keeping.
    if (error instanceof NotFiniteError) await save(trainer, out, card);
    throw error;
  } finally {
    view.stop();
  }
}

/** The step that `--trace` times; that of a run that is continued after it is its first. In step 1, drivers also set up new memory. */
const TRACED_STEP = 2;

async function saveTrace(out: Directory, trace: Trace, screen: Screen): Promise<void> {
  screen.say(String(trace));
  await out.write("trace.json", new TextEncoder().encode(JSON.stringify(trace.toChromeTrace())));
}

/** Saves the options of a run for `--config`. A file of somebody else's stays. */
async function saveConfig(out: Directory, raw: RawOptions): Promise<void> {
  if ((await out.size(CONFIG_FILE)) !== undefined && !(await hasOwnConfig(out))) return;
  const { configText } = await import("./config-file");
  await out.write(CONFIG_FILE, new TextEncoder().encode(`${CONFIG_MARK}\n${configText(TRAIN, raw, out.name)}`));
}

/** What a run says in its adapter's model card. */
function cardOf({ baseModel }: TrainOptions, dataset = "", metrics: Metrics = {}): ModelCard {
  return { ...(baseModel !== undefined && { baseModel }), results: [{ dataset, metrics }] };
}

function save(trainer: Trainer, out: Directory, card: ModelCard): Promise<void> {
  const { adapter, model, policy } = trainer.options;
  if (adapter.trainsInPlace) return saveModel(out, model);
  // Other programs would not apply the masks of an adapter's files.
  return policy?.kind === "structure_pruning" ? saveMerged(out, trainer) : saveAdapter(out, trainer, { card });
}

/** What the command line knows about a run: its title, how to run it again, and the versions of what it used. */
async function runFacts(raw: RawOptions, { adapter, task }: TrainOptions): Promise<RunFacts> {
  const freeze = typeof raw["freeze"] === "string" ? raw["freeze"] : "never";
  const policy = freeze.startsWith("{") ? "a policy" : freeze;
  const title = `${adapter}${policy === "never" ? "" : ` with ${policy}`} on ${task}`;
  return {
    title,
    options: raw,
    command: commandLine(argumentsWithoutToken(process.argv.slice(2))),
    versions: await versions(),
  };
}

/** A command of safetape in the syntax of a POSIX shell. */
export function commandLine(args: readonly string[]): string {
  return ["safetape", ...args].map((arg) => (/^[\w@%+=:,./-]+$/.test(arg) ? arg : quoted(arg))).join(" ");
}

const quoted = (argument: string): string => `'${argument.replaceAll("'", `'\\''`)}'`;
