// Functions of a page that uses the published bundle. Tests call them by name.
import { createEngine, fixed, full, loadAdapter, loadModel, saveAdapter, Trainer } from "safetape";
import { indexedDbTuningCache } from "safetape/engine";
import { fetchDirectory, loadTokenizer, memoryDirectory } from "safetape/data";
import type { Engine } from "safetape";
import type { FetchProgress } from "safetape/data";
import { download as offer } from "../../../examples/studio/page/files";
import {
  data,
  freezesOf,
  isNoise,
  movedError,
  readBatches,
  readCase,
  readStart,
  runOptions,
} from "../../../scripts/golden-file";
import { readFloatTensors } from "../../../src/io/safetensors";
import { evalOutcome, tinyRun } from "./tiny-run";
import type { TinyRun } from "./tiny-run";

let opened: Promise<Engine> | undefined;
const engine = (): Promise<Engine> => (opened ??= createEngine());

// Evaluated while the page loads, since code that a test evaluates is exempt from the policy.
const forbidden = evalOutcome();
const violations: string[] = [];
// The violation event of that attempt is dispatched after this module has run, and must not be recorded.
setTimeout(() => {
  addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) =>
    violations.push(`${violatedDirective} ${blockedURI}`),
  );
}, 0);

/** Fetches and runs a golden case. Returns errors of losses and final tensors, and the bytes left in the ledger. */
async function golden(name: string): Promise<{ loss: number; final: number; left: number }> {
  const gpu = await engine();
  const bytesBefore = gpu.ledger.liveBytes;
  let errors: { loss: number; final: number };
  {
    const directory = fetchDirectory(`/golden/${name}`);
    const goldenCase = await readCase(directory);
    using model = await loadModel(gpu, directory);
    const { adapter, tensors } = goldenCase.full
      ? { adapter: full(), tensors: undefined }
      : await loadAdapter(fetchDirectory(`/files/adapters/${name}`), model);
    const batches = await readBatches(directory, goldenCase, model.model.maxLength);
    using trainer = await Trainer.create({
      model,
      adapter,
      ...(tensors && { initial: tensors }),
      ...runOptions(goldenCase, batches),
      policy: fixed(freezesOf(goldenCase)),
    });
    const { losses } = await trainer.train();
    const [start, actual] = [await readStart(directory), await trainer.state.snapshot()];
    const expected = await readFloatTensors(directory, "expected.safetensors");
    const finals = [...expected.keys()].filter((key) => key.startsWith("final."));
    errors = {
      loss: Math.max(...goldenCase.losses.map((loss, i) => Math.abs(losses[i]! - loss) / Math.abs(loss))),
      final: Math.max(
        ...finals.map((key) => {
          const tensor = key.replace("final.", "");
          return isNoise(key, goldenCase)
            ? 0
            : movedError(key, data(actual, tensor), data(expected, key), data(start, tensor));
        }),
      ),
    };
  }
  return { ...errors, left: gpu.ledger.liveBytes - bytesBefore };
}

async function safeRun(): Promise<TinyRun> {
  return tinyRun(await engine());
}

/** Fetches the demo's model and tokenizer. */
async function load(): Promise<{ progress: FetchProgress[]; ids: number[]; layers: number }> {
  const progress: FetchProgress[] = [];
  const directory = fetchDirectory("/examples/model/", { onProgress: (event) => progress.push(event) });
  using model = await loadModel(await engine(), directory);
  const tokenizer = await loadTokenizer(directory);
  return { progress, ids: [...tokenizer.encode("the food was good").ids], layers: model.model.layers };
}

/** Reads a range of a large file. */
async function range(path: string, start: number, end: number): Promise<number[]> {
  return [...(await fetchDirectory(path).read("large.bin", start, end))];
}

/** Trains, offers the adapter as downloads, and returns its logits. */
async function download(name: string): Promise<{ predictions: number[]; files: string[] }> {
  const directory = fetchDirectory(`/golden/${name}`);
  const goldenCase = await readCase(directory);
  using model = await loadModel(await engine(), directory);
  const { adapter, tensors } = await loadAdapter(fetchDirectory(`/files/adapters/${name}`), model);
  const batches = await readBatches(directory, goldenCase, model.model.maxLength);
  using trainer = await Trainer.create({ model, adapter, initial: tensors, ...runOptions(goldenCase, batches) });
  await trainer.train();
  const memory = memoryDirectory("adapter");
  await saveAdapter(memory, trainer);
  // A SharedArrayBuffer is nowhere in this program, which the compiler cannot know.
  for (const file of await memory.list()) offer(new File([(await memory.read(file)) as Uint8Array<ArrayBuffer>], file));
  const logits: number[] = [];
  await trainer.evaluate([batches[0]!], (_batch, values) => logits.push(...values));
  return { predictions: logits, files: await memory.list() };
}

/** Loses the device during a run: the page destroys it, or the test crashes it by its function `atSecondStep`. */
async function loss(how: "destroy" | "crash"): Promise<{ error: string; name: string; again: TinyRun }> {
  const lost = await createEngine();
  // The test may define this function by `page.exposeFunction`.
  const exposed = globalThis as unknown as { atSecondStep?: () => Promise<void> };
  let crash: Promise<void> | undefined;
  const onStep = ({ step }: { step: number }): void => {
    if (step !== 2) return;
    if (how === "destroy") lost.device.handle.destroy();
    else crash = exposed.atSecondStep?.();
  };
  const outcome = await tinyRun(lost, { steps: 100_000, onStep, recover: false }).catch((error: unknown) => error);
  await crash;
  if (!(outcome instanceof Error)) throw new Error("The run continued without its device.");
  lost.dispose();
  opened = undefined;
  return { error: outcome.message, name: outcome.name, again: await safeRun() };
}

/** Loses the device during a run, which recovers on another one. */
async function recovered(): Promise<TinyRun> {
  using gpu = await createEngine();
  const onStep = ({ step }: { step: number }): void => {
    if (step === 2) gpu.device.handle.destroy();
  };
  return await tinyRun(gpu, { onStep });
}

interface WorkerAnswer {
  readonly run?: TinyRun;
  readonly forbidden?: string;
  readonly error?: string;
}

async function inWorker(): Promise<WorkerAnswer> {
  const worker = new Worker("/files/pages/worker.js", { type: "module" });
  const answer = await new Promise<WorkerAnswer>((resolve) => {
    worker.onmessage = ({ data: message }: MessageEvent<WorkerAnswer>) => resolve(message);
    worker.onerror = ({ message }) => resolve({ error: message || "The worker did not start." });
  });
  worker.terminate();
  return answer;
}

/** Milliseconds of eight consecutive timers, which are long if the tab is throttled, and of a run. */
async function timed(): Promise<{ hidden: boolean; timerMs: number; runMs: number; run: TinyRun }> {
  const hidden = document.visibilityState === "hidden";
  const start = performance.now();
  for (let i = 0; i < 8; i++) await new Promise((resolve) => setTimeout(resolve, 20));
  const middle = performance.now();
  const run = await safeRun();
  return { hidden, timerMs: middle - start, runMs: performance.now() - middle, run };
}

/** Loads from a tuning cache an entry that another cache object saved, and one that does not exist. */
async function tuning(): Promise<readonly unknown[]> {
  await indexedDbTuningCache("test")?.save("one", { class: { chosen: "old", tried: [] } });
  await indexedDbTuningCache("test")?.save("one", { class: { chosen: "portable", tried: ["portable"] } });
  const second = indexedDbTuningCache("test");
  return [await second?.load("one"), (await second?.load("two")) ?? "nothing"];
}

/** The outcome of evaluating code while the page loaded, and the policy's violations since. */
function policy(): { forbidden: string; violations: readonly string[] } {
  return { forbidden, violations };
}

const page = { golden, safeRun, load, range, download, loss, recovered, inWorker, timed, tuning, policy };
export type PublishedPage = typeof page;
Object.assign(globalThis, { page });
