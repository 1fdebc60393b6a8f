// Fine-tunes the demo's model in the page and draws loss, memory and frozen layers during the run.
import { createEngine, loadModel, lora, SafeTrainer, saveAdapter } from "../../dist/index.js";
import { LIFETIMES } from "../../dist/engine.js";
import { Batches, encodeExamples, fetchDirectory, loadTokenizer, memoryDirectory, readGlue } from "../../dist/data.js";
import { drawLayers, drawLoss, drawMemory } from "./charts.js";
import { downloadFiles } from "./download.js";

const element = (id) => document.getElementById(id);
const say = (text) => (element("status").textContent = text);
const form = element("options");

/** The reports of the current run. */
let run = { steps: Number(form.steps.value), layers: 4, losses: [], bytes: [], frozen: new Map() };
let isStopped = false;
let trainer;

function draw() {
  const { steps, layers, losses, bytes, frozen } = run;
  drawLoss(element("loss"), losses, steps);
  const lifetimes = LIFETIMES.map((name) => ({ name, values: bytes.map((live) => live[name]) }));
  drawMemory(element("memory"), lifetimes, steps);
  drawLayers(element("layers"), layers, frozen, losses.length, steps);
}

/** The model and the sentences, a promise that all runs share. */
let prepared;
async function prepare() {
  const engine = await createEngine();
  const onProgress = ({ file, loaded, total }) =>
    say(`Fetching ${file}: ${(loaded / 1e6).toFixed(1)}${total ? ` of ${(total / 1e6).toFixed(1)}` : ""} MB`);
  const directory = fetchDirectory("../model/", { onProgress });
  const model = await loadModel(engine, directory);
  const tokenizer = await loadTokenizer(directory);
  const { examples } = await readGlue(fetchDirectory("../data/sentiment/", { onProgress }), "train.tsv", "sst2");
  const { samples } = encodeExamples(examples, tokenizer, { maxLength: 40 });
  return { model, samples };
}

async function train() {
  say("Requesting a GPU ...");
  prepared ??= prepare();
  const { model, samples } = await prepared;
  const [steps, size, every] = [form.steps, form.batch, form.every].map(({ value }) => Number(value));
  trainer?.dispose();
  trainer = await SafeTrainer.create({
    model,
    adapter: lora({ rank: 4, alpha: 16, dropout: 0.1 }),
    data: new Batches(samples, { size, maxLength: 40, seed: 1 }),
    steps,
    seed: 1,
    optimizer: { learningRate: 4e-3, maxGradNorm: 1 },
    schedule: { type: "linear", warmupRatio: 0.05 },
    safe: { every, targetFreezeFraction: 0.5, maxWarmup: 5, scores: "warmup" },
  });
  run = { steps, layers: model.model.layers, losses: [], bytes: [], frozen: new Map() };
  element("save").disabled = false;
  for await (const report of trainer.steps({ ahead: true })) {
    show(report);
    if (isStopped) break;
  }
}

function show({ step, loss, bytes, freezes, examplesPerSecond, totalSteps, horizon }) {
  run.losses.push(loss);
  run.bytes.push(bytes);
  for (const freeze of freezes) freeze.layers.forEach((layer) => run.frozen.set(layer, freeze.step));
  draw();
  const lowest = horizon === undefined ? "all adapters are frozen" : `lowest live layer: ${horizon}`;
  say(`Step ${step} of ${totalSteps}, loss ${loss.toFixed(4)}, ${examplesPerSecond.toFixed(0)} examples/s, ${lowest}`);
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  isStopped = false;
  element("start").disabled = true;
  element("stop").disabled = false;
  try {
    await train();
  } catch (error) {
    // The device or a file may have failed, so the next attempt starts from scratch.
    prepared = trainer = undefined;
    say(error.message);
  }
  element("start").disabled = false;
  element("stop").disabled = true;
  document.body.dataset.done = "true";
});
element("stop").addEventListener("click", () => (isStopped = true));
element("save").addEventListener("click", async () => {
  const files = memoryDirectory("adapter");
  await saveAdapter(files, trainer);
  await downloadFiles(files);
});

// ?steps=60&batch=8 sets the form's fields.
for (const [name, value] of new URLSearchParams(location.search)) if (form[name]) form[name].value = value;
run.steps = Number(form.steps.value);
draw();
