// Fine-tunes the shipped ViT on images of five kinds that it has not seen, with LoRA and with LoRA under SAFE, and compares the runs.
//
//   npm run demo [-- --json --report-png]
//
// --json        prints one JSON object as the last line of stdout
// --report-png  also writes the report's figures as PNG files
import { mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { createEngine, loadModel, lora, never, safe, saveAdapter, Trainer } from "safetape";
import { LIFETIMES, versions } from "safetape/engine";
import { FASHION_MNIST_CLASSES, ImageBatches, readIdx, readPreprocessor } from "safetape/data";
import { accuracy } from "safetape/metrics";
import { RunLog, saveReport } from "safetape/analysis";
import { provenance } from "../scripts/provenance.mjs";

const json = process.argv.includes("--json");
const say = (text) => (json ? process.stderr : process.stdout).write(`${text}\n`);
const isTerminal = process.stderr.isTTY;
const here = (path) => fileURLToPath(new URL(path, import.meta.url));

const STEPS = 240;
const BATCH = 32;

const engine = await createEngine();
const adapterName = engine.info.description || engine.info.device || engine.info.vendor;
say(`GPU: ${adapterName}`);
// Its head was for the five other kinds, so that a new one is made.
const head = { task: "image_classification", labels: FASHION_MNIST_CLASSES.length };
const model = await loadModel(engine, here("bases/vit"), { ...head, seed: 1 });
const [train, dev] = await Promise.all(["train", "t10k"].map(read));
say(`${train.length} images for training, ${dev.length} for evaluation\n`);

const base = await evaluateBase();
say(`with its new head alone: accuracy ${percent(base)}\n`);
const plain = await run("LoRA", never());
const frozen = await run("LoRA + SAFE", safe({ every: 20, targetFreezeFraction: 0.5, maxWarmup: 5, scores: "warmup" }));
table(plain, frozen);

const result = { lora: plain, safe: frozen, adapter: adapterName, base: { accuracy: base } };
mkdirSync(here("../demo-output"), { recursive: true });
writeFileSync(
  here("../demo-output/demo.json"),
  `${JSON.stringify({ ...provenance(engine.info), ...result }, null, 1)}\n`,
);
say(`\nreports: ${here("../demo-output/lora/report.html")}\n         ${here("../demo-output/safe/report.html")}`);
model.dispose();
engine.dispose();
if (json) process.stdout.write(`${JSON.stringify(result)}\n`);

async function read(part) {
  const files = ["images-idx3", "labels-idx1"].map((kind) => `${part}-${kind}-ubyte.gz`);
  const preprocessor = await readPreprocessor(here("bases/vit"));
  return readIdx(here("data/fashion"), ...files, { classes: FASHION_MNIST_CLASSES.length, preprocessor });
}

function devBatches() {
  return new ImageBatches(dev, model.model, { size: 100, shuffle: false }).restOfEpoch();
}

function createTrainer(policy, steps) {
  return Trainer.create({
    model,
    adapter: lora({ rank: 4, alpha: 16, dropout: 0.1 }),
    data: new ImageBatches(train, model.model, { size: BATCH, seed: 1 }),
    steps,
    optimizer: { learningRate: 4e-3, maxGradNorm: 1 },
    schedule: { type: "linear", warmupRatio: 0.05 },
    policy,
    seed: 1,
  });
}

/** The accuracy before the first step. */
async function evaluateBase() {
  const untrained = await createTrainer(never(), 1);
  const { predictions, labels } = await untrained.evaluate(devBatches());
  untrained.dispose();
  return accuracy(predictions, labels);
}

async function run(title, policy) {
  engine.ledger.resetPeak();
  say(title);
  const trainer = await createTrainer(policy, STEPS);
  let recentLosses = [];
  const log = new RunLog();
  const outcome = await trainer.train((report) => {
    log.add(report);
    recentLosses = [...recentLosses.slice(-9), report.loss];
    for (const { step, layers, returnedBytes } of report.freezes) {
      if (isTerminal) process.stderr.write("\r\x1b[K");
      say(`  step ${step}: froze the adapter of layer ${layers.join(", ")}; ${bytes(returnedBytes)} returned`);
    }
    progress(report, recentLosses);
  });
  const { predictions, labels } = await trainer.evaluate(devBatches());
  const name = title === "LoRA" ? "lora" : "safe";
  const out = here(`../demo-output/${name}`);
  await saveAdapter(out, trainer);
  const facts = { title: `${title} on five kinds of Fashion-MNIST`, task: "fashion_mnist", command: "npm run demo" };
  const metrics = { accuracy: accuracy(predictions, labels) };
  const evaluations = [{ step: 0, metrics: { accuracy: base } }];
  const record = log.record(trainer, { ...facts, metrics, evaluations, versions: await versions() });
  await saveReport(out, record, { png: process.argv.includes("--report-png") });
  const final = engine.ledger.live;
  trainer.dispose();
  say(`  accuracy ${percent(metrics.accuracy)}; adapter and report in demo-output/${name}/\n`);
  return {
    accuracy: metrics.accuracy,
    peakBytes: outcome.peakBytes,
    savedBytesFirst: outcome.savedBytesFirst,
    savedBytesLast: outcome.savedBytesLast,
    flops: outcome.flops,
    seconds: outcome.seconds,
    lossFirst: outcome.lossFirst,
    lossLast: outcome.lossLast,
    frozen: outcome.freezes.flatMap(({ step, tensors }) => tensors.map((adapter) => ({ step, adapter }))),
    peak: outcome.peak,
    final,
  };
}

function progress({ step, totalSteps, examplesPerSecond, bytes: live, horizon, frozenTensors }, recentLosses) {
  const loss = recentLosses.reduce((sum, value) => sum + value, 0) / recentLosses.length;
  const memory = LIFETIMES.map((lifetime) => `${lifetime} ${bytes(live[lifetime])}`).join(", ");
  const line =
    `  ${step}/${totalSteps}  loss ${loss.toFixed(4)}  ${examplesPerSecond.toFixed(0)} examples/s  ` +
    `${memory}  horizon ${horizon ?? "head"}  frozen ${frozenTensors}`;
  if (isTerminal) process.stderr.write(`\r\x1b[K${line}${step === totalSteps ? "\n" : ""}`);
  else if (step % 20 === 0 || step === totalSteps) say(line);
}

function table(a, b) {
  const rows = [
    ["", "LoRA", "LoRA + SAFE", "SAFE / LoRA"],
    ["accuracy", percent(a.accuracy), percent(b.accuracy), ""],
    ["peak bytes", ...pair(a.peakBytes, b.peakBytes)],
    ...LIFETIMES.map((lifetime) => [`  ${lifetime} at the peak`, ...pair(a.peak[lifetime], b.peak[lifetime])]),
    ...LIFETIMES.map((lifetime) => [`  ${lifetime} at the end`, ...pair(a.final[lifetime], b.final[lifetime])]),
    ["FLOPs", a.flops.toExponential(3), b.flops.toExponential(3), ratio(a.flops, b.flops)],
    ["seconds", a.seconds.toFixed(1), b.seconds.toFixed(1), ratio(a.seconds, b.seconds)],
  ];
  for (const [name, ...cells] of rows) say(name.padEnd(22) + cells.map((cell) => cell.padStart(14)).join(""));
}

function pair(a, b) {
  return [bytes(a), bytes(b), ratio(a, b)];
}

function ratio(a, b) {
  return a > 0 ? (b / a).toFixed(2) : "";
}

function percent(share) {
  return `${(100 * share).toFixed(1)} %`;
}

function bytes(count) {
  return count < 1e6 ? `${(count / 1e3).toFixed(1)} kB` : `${(count / 1e6).toFixed(2)} MB`;
}
