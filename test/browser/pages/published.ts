// What a page does with the published bundle. Tests call these functions by name.
import {
  createEngine,
  fetchDirectory,
  fixed,
  full,
  indexedDbTuningCache,
  loadAdapter,
  loadModel,
  memoryDirectory,
} from "safetape";
import { loadTokenizer, saveAdapter, Trainer } from "safetape";
import type { Engine, FetchProgress } from "safetape";
import { downloadFiles } from "../../../examples/browser/download.js";
import {
  data,
  freezesOf,
  movedError,
  readBatches,
  readCase,
  readStart,
  runOptions,
} from "../../../scripts/golden-file";
import { readFloatTensors } from "../../../src/io/safetensors";
import { tinyRun, triedEval } from "./tiny-run";
import type { TinyRun } from "./tiny-run";

let opened: Promise<Engine> | undefined;
const engine = (): Promise<Engine> => (opened ??= createEngine());

// As the page loads: what a test calls is exempt from the policy.
const forbidden = triedEval();
const violations: string[] = [];
// The event of that attempt comes after this module.
setTimeout(() => {
  addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) =>
    violations.push(`${violatedDirective} ${blockedURI}`),
  );
}, 0);

/** A golden case, all of it fetched: errors of its losses and final tensors. */
async function golden(name: string): Promise<{ loss: number; final: number; left: number }> {
  const gpu = await engine();
  const before = gpu.ledger.liveBytes;
  let errors: { loss: number; final: number };
  {
    const directory = fetchDirectory(`/golden/${name}`);
    const told = await readCase(directory);
    using model = await loadModel(gpu, directory);
    const { adapter, tensors } = told.full
      ? { adapter: full(), tensors: undefined }
      : await loadAdapter(fetchDirectory(`/files/adapters/${name}`), model);
    const batches = await readBatches(directory, told, model.model.maxLength);
    using trainer = await Trainer.create({
      model,
      adapter,
      ...(tensors && { initial: tensors }),
      ...runOptions(told, batches),
      policy: fixed(freezesOf(told)),
    });
    const { losses } = await trainer.train();
    const [start, actual] = [await readStart(directory), await trainer.state.snapshot()];
    const expected = await readFloatTensors(directory, "expected.safetensors");
    const finals = [...expected.keys()].filter((key) => key.startsWith("final."));
    errors = {
      loss: Math.max(...told.losses.map((loss, i) => Math.abs(losses[i]! - loss) / Math.abs(loss))),
      final: Math.max(
        ...finals.map((key) => {
          const own = key.replace("final.", "");
          return movedError(key, data(actual, own), data(expected, key), data(start, own));
        }),
      ),
    };
  }
  return { ...errors, left: gpu.ledger.liveBytes - before };
}

async function safeRun(): Promise<TinyRun> {
  return tinyRun(await engine());
}

/** The demo's model and tokenizer, by fetch. */
async function load(): Promise<{ progress: FetchProgress[]; ids: number[]; layers: number }> {
  const progress: FetchProgress[] = [];
  const directory = fetchDirectory("/examples/model/", { onProgress: (told) => progress.push(told) });
  using model = await loadModel(await engine(), directory);
  const tokenizer = await loadTokenizer(directory);
  return { progress, ids: [...tokenizer.encode("the food was good").ids], layers: model.model.layers };
}

/** A range of a file that is too large to be fetched whole. */
async function range(path: string, start: number, end: number): Promise<number[]> {
  return [...(await fetchDirectory(path).read("large.bin", start, end))];
}

/** Trains, offers the adapter as downloads, and tells what it predicts. */
async function download(name: string): Promise<{ predictions: number[]; files: string[] }> {
  const directory = fetchDirectory(`/golden/${name}`);
  const told = await readCase(directory);
  using model = await loadModel(await engine(), directory);
  const { adapter, tensors } = await loadAdapter(fetchDirectory(`/files/adapters/${name}`), model);
  const batches = await readBatches(directory, told, model.model.maxLength);
  using trainer = await Trainer.create({ model, adapter, initial: tensors, ...runOptions(told, batches) });
  await trainer.train();
  const memory = memoryDirectory("adapter");
  await saveAdapter(memory, trainer);
  await downloadFiles(memory);
  const logits: number[] = [];
  await trainer.evaluate([batches[0]!], (_batch, values) => logits.push(...values));
  return { predictions: logits, files: await memory.list() };
}

/** Loses the device in mid-run, by the page itself or by whoever hears of the second step. */
async function loss(how: "destroy" | "crash"): Promise<{ error: string; name: string; again: TinyRun }> {
  const lost = await createEngine();
  const heard = globalThis as unknown as { atSecondStep?: () => Promise<void> };
  let crash: Promise<void> | undefined;
  const onStep = ({ step }: { step: number }): void => {
    if (step !== 2) return;
    if (how === "destroy") lost.device.handle.destroy();
    else crash = heard.atSecondStep?.();
  };
  const outcome = await tinyRun(lost, { steps: 100_000, onStep, recover: false }).catch(
    (error: unknown) => error as Error,
  );
  await crash;
  if (!(outcome instanceof Error)) throw new Error("The run went on without its device.");
  lost.dispose();
  opened = undefined;
  return { error: outcome.message, name: outcome.name, again: await safeRun() };
}

/** Loses the device in mid-run, and goes on on another one. */
async function recovered(): Promise<TinyRun> {
  using own = await createEngine();
  const onStep = ({ step }: { step: number }): void => {
    if (step === 2) own.device.handle.destroy();
  };
  return await tinyRun(own, { onStep });
}

interface WorkerAnswer {
  readonly run?: TinyRun;
  readonly forbidden?: string;
  readonly error?: string;
}

async function inWorker(): Promise<WorkerAnswer> {
  const worker = new Worker("/files/pages/worker.js", { type: "module" });
  const answer = await new Promise<WorkerAnswer>((resolve) => {
    worker.onmessage = ({ data: told }: MessageEvent<WorkerAnswer>) => resolve(told);
    worker.onerror = ({ message }) => resolve({ error: message || "The worker did not start." });
  });
  worker.terminate();
  return answer;
}

/** Milliseconds of some timers in a row, to see whether they are throttled, beside those of a run. */
async function timed(): Promise<{ hidden: boolean; timers: number; run: number; told: TinyRun }> {
  const hidden = document.visibilityState === "hidden";
  const start = performance.now();
  for (let i = 0; i < 8; i++) await new Promise((resolve) => setTimeout(resolve, 20));
  const middle = performance.now();
  const told = await safeRun();
  return { hidden, timers: middle - start, run: performance.now() - middle, told };
}

/** What a second cache of tuned kernels finds of what a first one saved, and of what nobody did. */
async function tuning(): Promise<readonly unknown[]> {
  await indexedDbTuningCache("test")?.save("one", { class: { chosen: "old", tried: [] } });
  await indexedDbTuningCache("test")?.save("one", { class: { chosen: "portable", tried: ["portable"] } });
  const second = indexedDbTuningCache("test");
  return [await second?.load("one"), (await second?.load("two")) ?? "nothing"];
}

/** What came of making code from a string as the page loaded, and what else the policy has had to forbid since. */
function policy(): { forbidden: string; violations: readonly string[] } {
  return { forbidden, violations };
}

const page = { golden, safeRun, load, range, download, loss, recovered, inWorker, timed, tuning, policy };
export type PublishedPage = typeof page;
Object.assign(globalThis, { page });
