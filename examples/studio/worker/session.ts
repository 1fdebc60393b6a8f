// The worker's functions: one model, its data, and a run at a time.
import * as v from "valibot";
import { ConfigError, DataError } from "../../../src/base/errors";
import { readImages } from "../../../src/data/image-folder";
import { ImageBatches, imageSpec } from "../../../src/data/images";
import { readPreprocessor } from "../../../src/data/preprocessor";
import { createEngine } from "../../../src/engine";
import type { Engine } from "../../../src/engine";
import type { Directory } from "../../../src/io/directory";
import { jsonBytes, readJson } from "../../../src/io/json";
import { checkpointSteps } from "../../../src/train/checkpoint/directory";
import { classify } from "../../../src/train/classify";
import type { Classified } from "../../../src/train/classify";
import type {
  Api,
  ClassScores,
  DataFacts,
  EvaluationFacts,
  GivenFile,
  GpuFacts,
  Mapping,
  ModelFacts,
  ModelSource,
  PlanFacts,
  PlanForm,
  RunFacts,
  StoredItem,
  StoredRun,
  StudioEvent,
  Take,
  Together,
} from "../protocol";
import { StudioData } from "./data";
import {
  BlobDirectory,
  MODELS,
  removeStored,
  RUN,
  StorageFullError,
  storedBytes,
  storedFolder,
  storedFolders,
} from "./directories";
import { keepStudioModel, openStudioModel } from "./model";
import type { OpenedModel } from "./model";
import { firstForm, fittedForm, planOf, stepsOf } from "./plan";
import { Run, RunControl } from "./run";
import { taken } from "./take";
import { Writers } from "./writers";

/** The lock of the stored run: one tab trains at a time, and others are told. */
const LOCK = "safetape-studio-run";
const RUN_FILE = "studio.json";

const MAPPING = v.object({
  task: v.picklist(["classify", "answer", "text", "images"]),
  header: v.boolean(),
  text: v.number(),
  pair: v.number(),
  label: v.number(),
  eachAnswer: v.boolean(),
  devShare: v.number(),
});
const FORM = v.object({
  adapter: v.picklist(["lora", "dora"]),
  rank: v.number(),
  targets: v.picklist(["usual", "all-linear"]),
  freeze: v.picklist(["safe", "never"]),
  batch: v.number(),
  length: v.number(),
  epochs: v.number(),
  learningRate: v.number(),
  weights: v.picklist(["f32", "f16", "bf16", "int8", "nf4"]),
  activations: v.picklist(["f32", "f16", "bf16"]),
  recompute: v.picklist(["none", "mlp", "layers"]),
  microBatch: v.number(),
  seed: v.number(),
});

/** What the browser's storage has of a run beside its checkpoints and data: enough to open it again. */
const STORED = v.object({
  model: v.string(),
  source: v.variant("kind", [
    v.object({ kind: v.literal("shipped") }),
    v.object({ kind: v.literal("files") }),
    v.object({ kind: v.literal("url"), url: v.string() }),
    v.object({ kind: v.literal("kept"), name: v.string() }),
  ]),
  paths: v.array(v.string()),
  isExample: v.boolean(),
  mapping: MAPPING,
  form: FORM,
  totalSteps: v.number(),
});

export class Session implements Api {
  #engine: Engine | undefined;
  #model: OpenedModel | undefined;
  #files: readonly GivenFile[] | undefined;
  #isExample = false;
  #data: StudioData | undefined;
  #form: PlanForm | undefined;
  #run: Run | undefined;
  #control = new RunControl();
  #writers: Writers | undefined;
  /** Measured floating-point operations of a second. */
  #rate: number | undefined;
  #unlock: (() => void) | undefined;

  constructor(private readonly emit: (event: StudioEvent) => void) {}

  async gpu(): Promise<GpuFacts> {
    const { description, device, vendor, isSoftware } = (await this.#opened()).info;
    return { description: description || device || vendor || "a GPU that does not give its name", isSoftware };
  }

  async openModel(source: ModelSource): Promise<ModelFacts> {
    const opened = await openStudioModel(source, this.#progress);
    this.#closeRun();
    this.#model = opened;
    this.#data = undefined;
    this.#rate = undefined;
    return opened.facts;
  }

  async keepModel(): Promise<ModelFacts> {
    this.#model = await keepStudioModel(this.#needed(this.#model, "a model"), this.#progress);
    return this.#model.facts;
  }

  async openData(files: readonly GivenFile[] | undefined, mapping?: Mapping): Promise<DataFacts> {
    const given = files ?? (await exampleFiles());
    this.#progress("Reading the files ...");
    const data = await StudioData.open(given, this.#needed(this.#model, "a model"), mapping);
    this.#closeRun();
    [this.#files, this.#isExample, this.#data] = [given, files === undefined, data];
    return data.facts;
  }

  async mapData(mapping: Mapping): Promise<DataFacts> {
    const isExample = this.#isExample;
    const facts = await this.openData(this.#needed(this.#files, "data"), mapping);
    this.#isExample = isExample;
    return facts;
  }

  async firstForm(): Promise<PlanForm> {
    return Promise.resolve(firstForm(this.#needed(this.#data, "data")));
  }

  async plan(form: PlanForm): Promise<PlanFacts> {
    return Promise.resolve(planOf(form, this.#needed(this.#data, "data"), this.#rate));
  }

  async fit(form: PlanForm, budget: number): Promise<PlanForm> {
    return Promise.resolve(fittedForm(form, this.#needed(this.#data, "data"), budget));
  }

  async measure(form: PlanForm): Promise<void> {
    const engine = await this.#opened();
    const data = this.#needed(this.#data, "data");
    const seconds = await Run.measure({ engine, data, form, emit: this.emit });
    this.#rate = planOf(form, data, undefined).flops / seconds;
  }

  async train(form: PlanForm, together?: Together): Promise<RunFacts> {
    const data = this.#needed(this.#data, "data");
    const model = this.#needed(this.#model, "a model");
    const engine = await this.#opened();
    this.#control = new RunControl();
    // A lock that is let go is not free at once.
    this.#closeRun(true);
    await this.#lock();
    this.#form = form;
    const checkpoints = together ? undefined : await this.#storeRun(model, data, form);
    this.#run = await Run.open({ engine, data, form, checkpoints, together, isResumed: false, emit: this.emit });
    return this.#run.train(this.#control);
  }

  async pause(): Promise<void> {
    this.#control.pause();
    return Promise.resolve();
  }

  async resume(): Promise<void> {
    this.#control.resume();
    return Promise.resolve();
  }

  async stop(): Promise<void> {
    this.#control.stop();
    return Promise.resolve();
  }

  async storedRun(): Promise<StoredRun | undefined> {
    if (!hasStorage()) return undefined;
    const folder = await storedFolder(RUN);
    if ((await folder.size(RUN_FILE)) === undefined) return undefined;
    const { model, source, form, totalSteps } = await readJson(folder, RUN_FILE, STORED);
    const [step] = await checkpointSteps(folder);
    if (step === undefined) return undefined;
    const needsModel = source.kind === "files" && this.#model?.facts.name !== model;
    return { model, needsModel, step, totalSteps, form, isBusy: await this.#isElsewhere() };
  }

  async continueRun(files?: readonly GivenFile[]): Promise<RunFacts> {
    this.#control = new RunControl();
    this.#closeWriters();
    // One that was stopped goes on where it is, saved or not.
    if (this.#run && !this.#run.hasFailed) return this.#run.train(this.#control);
    const folder = await storedFolder(RUN);
    if (!this.#run) await this.#openStored(folder, files);
    await this.#lock();
    this.#closeRun(true);
    // A device that was lost for good stays lost.
    this.#engine?.dispose();
    this.#engine = undefined;
    const engine = await this.#opened();
    const [data, form] = [this.#needed(this.#data, "data"), this.#needed(this.#form, "a plan")];
    this.#run = await Run.open({ engine, data, form, checkpoints: folder, isResumed: true, emit: this.emit });
    return this.#run.train(this.#control);
  }

  /** Opens the model and the data of the stored run. */
  async #openStored(folder: Directory, files: readonly GivenFile[] | undefined): Promise<void> {
    const { model, source, paths, isExample, mapping, form } = await readJson(folder, RUN_FILE, STORED);
    // The user may have opened the model already, with a token that is not stored. Another model is refused by the checkpoint.
    if (files || this.#model?.facts.name !== model) {
      if (source.kind === "files" && !files) {
        throw new ConfigError("The run's model is not in this browser's storage.", "Give its folder again.");
      }
      await this.openModel(source.kind === "files" ? { kind: "files", files: files! } : source);
    }
    const data = await storedFolder(RUN, "data");
    const given: GivenFile[] = [];
    for (const [i, path] of paths.entries()) {
      // A SharedArrayBuffer is nowhere in this program, which the compiler cannot know.
      const bytes = (await data.read(`file-${i}`)) as Uint8Array<ArrayBuffer>;
      given.push({ path, file: new File([bytes], path.split("/").at(-1)!) });
    }
    await this.openData(given, mapping);
    [this.#isExample, this.#form] = [isExample, form];
  }

  async opened(): Promise<{ readonly model: ModelFacts; readonly data: DataFacts; readonly form: PlanForm }> {
    const [model, data, form] = [this.#model, this.#data, this.#form];
    return Promise.resolve({
      model: this.#needed(model, "a model").facts,
      data: this.#needed(data, "data").facts,
      form: this.#needed(form, "a plan"),
    });
  }

  async evaluation(): Promise<EvaluationFacts> {
    return Promise.resolve(this.#needed(this.#run, "a run").evaluation);
  }

  async classify(text: string, pair: string | undefined): Promise<readonly ClassScores[]> {
    if (text.trim() === "") throw new DataError("there is no text", "type one");
    const tokenizer = await this.#needed(this.#model, "a model").tokenizer();
    const inputs = [pair === undefined ? text : ([text, pair] as const)];
    const { length } = this.#needed(this.#form, "a plan");
    return this.#bothOf((adapter) => classify(this.#run!.loaded, inputs, { tokenizer, maxLength: length, ...adapter }));
  }

  async classifyImage(file: File): Promise<readonly ClassScores[]> {
    const { model } = this.#needed(this.#run, "a run").loaded;
    const directory = new BlobDirectory("the given image", [[file.name, file]]);
    const preprocessor = await readPreprocessor(this.#needed(this.#model, "a model").directory);
    const images = await readImages([{ directory, file: file.name, label: 0 }], {
      spec: imageSpec(model),
      preprocessor,
    });
    const batches = () => new ImageBatches(images, model, { size: 1, shuffle: false }).restOfEpoch();
    return this.#bothOf((adapter) => classify(this.#run!.loaded, batches(), adapter));
  }

  /** The probabilities of a row's classes, by the model as it was and with the adapter. */
  async #bothOf(
    scores: (adapter: { readonly adapter?: Awaited<ReturnType<Run["weights"]>> }) => Promise<readonly Classified[]>,
  ): Promise<readonly ClassScores[]> {
    const run = this.#needed(this.#run, "a run");
    const [base] = await scores({});
    const [tuned] = await scores({ adapter: await run.weights() });
    const { labelNames } = this.#needed(this.#data, "data");
    return labelNames.map((name, i) => ({
      name,
      base: base?.probabilities[i] ?? 0,
      tuned: tuned?.probabilities[i] ?? 0,
    }));
  }

  async answer(message: string, maxNewTokens: number): Promise<string> {
    const run = this.#needed(this.#run, "a run");
    const model = this.#needed(this.#model, "a model");
    const { task, text } = this.#needed(this.#data, "data").mapping;
    try {
      this.#writers ??= await Writers.open(run, model, task === "answer" && text < 0, this.emit);
      return await this.#writers.answer(message, maxNewTokens);
    } catch (error) {
      // After a message that is too long, the conversation goes on; after anything else its caches may be gone.
      if (!(error instanceof DataError)) this.#closeWriters();
      throw error;
    }
  }

  async stopAnswer(): Promise<void> {
    this.#writers?.stop();
    return Promise.resolve();
  }

  async forgetAnswers(): Promise<void> {
    this.#writers?.reset();
    return Promise.resolve();
  }

  async take(what: Take): Promise<File> {
    const [run, data, form] = [this.#run, this.#data, this.#form];
    return taken(what, this.#needed(run, "a run"), this.#needed(data, "data"), this.#needed(form, "a plan"));
  }

  async stored(): Promise<readonly StoredItem[]> {
    if (!hasStorage()) return [];
    const models = await storedFolders(MODELS);
    const run = await storedBytes(RUN);
    return [
      ...models.map(({ name, bytes }) => ({ name: `${MODELS}/${name}`, what: `model ${name}`, bytes })),
      ...(run > 0 ? [{ name: RUN, what: "the last run: its data and its checkpoint", bytes: run }] : []),
    ];
  }

  async remove(name: string): Promise<readonly StoredItem[]> {
    if (name === RUN && (await this.#isElsewhere())) throw busy();
    await removeStored(...name.split("/"));
    return this.stored();
  }

  readonly #progress = (text: string): void => this.emit({ type: "progress", text });

  async #opened(): Promise<Engine> {
    this.#engine ??= await createEngine();
    return this.#engine;
  }

  #needed<T>(value: T | undefined, what: string): T {
    if (value !== undefined) return value;
    throw new ConfigError(`There is not yet ${what}.`, "Take the steps in their order.");
  }

  /** @param isGoingOn whether this tab goes on to train, so that its lock stays. */
  #closeRun(isGoingOn = false): void {
    this.#closeWriters();
    this.#run?.dispose();
    this.#run = undefined;
    if (isGoingOn) return;
    this.#unlock?.();
    this.#unlock = undefined;
  }

  #closeWriters(): void {
    this.#writers?.dispose();
    this.#writers = undefined;
  }

  /** Whether another tab has the stored run. */
  async #isElsewhere(): Promise<boolean> {
    if (this.#unlock) return false;
    const { held = [] } = await navigator.locks.query();
    return held.some(({ name }) => name === LOCK);
  }

  /** Takes the stored run for this tab. @throws ConfigError where another tab trains. */
  async #lock(): Promise<void> {
    if (this.#unlock || !hasStorage()) return;
    const isMine = await new Promise<boolean>((resolve) => {
      void navigator.locks.request(LOCK, { ifAvailable: true }, async (lock) => {
        resolve(lock !== null);
        if (lock) await new Promise<void>((release) => (this.#unlock = release));
      });
    });
    if (!isMine) throw busy();
  }

  /** Writes what opens the run again into the browser's storage, in place of the last run; undefined where that is not possible. */
  async #storeRun(model: OpenedModel, data: StudioData, form: PlanForm): Promise<Directory | undefined> {
    if (!hasStorage()) {
      this.emit({ type: "notice", text: "This page has no storage here, so a reload ends the run." });
      return undefined;
    }
    try {
      await removeStored(RUN);
      const folder = await storedFolder(RUN);
      const files = await storedFolder(RUN, "data");
      for (const [i, { file }] of data.files.entries()) await files.write(`file-${i}`, blobPieces(file));
      const { source, facts } = model;
      const record = {
        model: facts.name,
        // A token is never stored.
        source:
          source.kind === "files"
            ? { kind: "files" }
            : source.kind === "url"
              ? { kind: "url", url: source.url }
              : source,
        paths: data.files.map(({ path }) => path),
        isExample: this.#isExample,
        mapping: data.mapping,
        form,
        totalSteps: stepsOf(form, data),
      };
      await folder.write(RUN_FILE, jsonBytes(record));
      return folder;
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      // A part of a run opens nothing, and would take the place of what fits.
      await removeStored(RUN);
      const text = `The run is not saved, and a reload ends it. ${error.message.replace("\n", " ")}`;
      this.emit({ type: "notice", text, isStorageFull: error instanceof StorageFullError });
      return undefined;
    }
  }
}

const busy = (): ConfigError =>
  new ConfigError("Another tab is training, and has the stored run.", "Wait for it, or stop and close it.");

/** Pages that are served over plain HTTP, and private windows of some browsers, have no storage. */
const hasStorage = (): boolean => typeof (navigator.storage as StorageManager | undefined)?.getDirectory === "function";

async function* blobPieces(blob: Blob): AsyncGenerator<Uint8Array, void, undefined> {
  const reader = blob.stream().getReader();
  for (let next = await reader.read(); !next.done; next = await reader.read()) yield next.value;
}

/** The example's sentences, beside the page. */
async function exampleFiles(): Promise<GivenFile[]> {
  const name = "reviews.tsv";
  const response = await fetch(new URL(`data/${name}`, location.href));
  if (!response.ok) throw new DataError(`the server has no data/${name}`, "give a file of your own");
  return [{ path: name, file: new File([await response.blob()], name) }];
}
