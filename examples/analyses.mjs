// Runs the papers' analyses with the shipped model on the shipped sentences, and writes numbers and pictures.
//
//   npm run analyses [-- --out DIR]      if interrupted, run it again: it continues in the same folder
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const outOption = process.argv.indexOf("--out");
const out = outOption > 0 ? process.argv[outOption + 1] : here("../analysis-output");

const data = ["--model", here("model"), "--task", "sst2", "--data", here("data/sentiment"), "--max-length", "40"];
const method = ["--rank", "4", "--alpha", "16", "--dropout", "0.1"];
const training = ["--batch", "32", "--lr", "0.004", "--warmup-ratio", "0.05", "--seed", "1"];
const safe = { policy: "safe", every: 10, targetFreezeFraction: 0.5, maxWarmup: 5, scores: "warmup" };
const landscape = ["--steps", "120", "--freeze", JSON.stringify(safe)];

const start = performance.now();
analyze("similarity", "--steps", "120");
analyze("contribution", "--steps", "80");
analyze("landscape", ...landscape, "--points", "13");
analyze("hessian", "--saved", `${out}/lora,${out}/lora+safe`);
sensitivity();
schedule();
process.stderr.write(`${((performance.now() - start) / 60_000).toFixed(1)} minutes\n`);

function analyze(analysis, ...options) {
  run("analyze", analysis, ...data, ...method, ...training, ...options, "--out", out, "--png");
}

/** When AFLoRA's matrices freeze, at the rates with which the study trains it. */
function sensitivity() {
  const rates = ["--lr", "0.01", "--batch", "32", "--warmup-ratio", "0.05", "--seed", "1"];
  const freeze = JSON.stringify({ policy: "aflora", initialEpochs: 0.1, finalShare: 0.4 });
  const options = ["--adapter", "aflora", "--rank", "4", "--steps", "80", "--freeze", freeze];
  run("analyze", "sensitivity", ...data, ...options, ...rates, "--out", out, "--png");
}

/** SAFE's schedule over twelve intervals if the layers always had their scores from the end of the first analysis. */
function schedule() {
  const { points } = JSON.parse(readFileSync(`${out}/similarity.json`, "utf8"));
  const scores = points.at(-1).original.map((cka) => (1 - cka).toFixed(4));
  const length = ["--steps", "120", "--steps-per-epoch", "10", "--layers", String(scores.length)];
  run("schedule", ...length, "--scores", scores.join(","), "--out", out, "--png");
}

function run(...args) {
  const { status } = spawnSync(process.execPath, [here("../dist/cli.js"), ...args], { stdio: "inherit" });
  if (status !== 0) process.exit(status ?? 1);
}
