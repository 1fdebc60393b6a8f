// @ts-check
// Compares what two checkouts compute, bit by bit: golden runs, runs with freezes, resumed runs, checkpoints.
//
//   node scripts/compare-bits.mjs BEFORE [AFTER]     both built, with node_modules; AFTER is this checkout by default
//
// Prints one line per run and exits with 1 if a run differs.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { builtLibrary } from "./built-library.mjs";

const THIS_FILE = fileURLToPath(import.meta.url);
const STEPS = 12;

/** @param {string | Uint8Array} data */
const digest = (data) => createHash("sha256").update(data).digest("hex").slice(0, 16);

/**
 * Digests of all tensors of a safetensors file by name, except a checkpoint's checksum.
 * @param {string} path
 * @returns {Record<string, string>}
 */
function digestTensors(path) {
  const file = readFileSync(path);
  const headerBytes = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.subarray(8, 8 + headerBytes).toString("utf8"));
  /** @type {Record<string, string>} */
  const digests = {};
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__" || name === "sha256") continue;
    const [start, end] = entry.data_offsets;
    digests[name] =
      `${entry.dtype} ${entry.shape} ${digest(file.subarray(8 + headerBytes + start, 8 + headerBytes + end))}`;
  }
  return digests;
}

/**
 * Results of a checkout's golden cases, computed by its own script.
 * @param {string} root
 */
function digestGoldenRuns(root) {
  const folder = mkdtempSync(join(tmpdir(), "safetape-bits-"));
  try {
    const cases = readdirSync(join(root, "test/golden")).map((name) => join("test/golden", name));
    execFileSync(process.execPath, ["scripts/run.mjs", "scripts/golden.ts", ...cases, "--out", folder], { cwd: root });
    return Object.fromEntries(
      cases.map((path) => {
        const name = path.split("/").at(-1) ?? path;
        const { losses, cka } = JSON.parse(readFileSync(join(folder, name, "actual.json"), "utf8"));
        return [`golden ${name}`, { losses, cka, ...digestTensors(join(folder, name, "actual.safetensors")) }];
      }),
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * Options that distinguish the runs, by the run's name. Other options are the same for all.
 * @param {any} safetape
 * @returns {Record<string, any>}
 */
function runsOf(safetape) {
  const { adalora, adapterDrop, aflora, afloraFreezing, bitfit, houlsby, lora, loraPrune, safe, sora, vera } = safetape;
  const memory = { microBatch: 3, recompute: "layers" };
  const freezing = { every: 3, maxWarmup: 1, targetFreezeFraction: 0.5 };
  return {
    "LoRA, SAFE, dropout": { adapter: lora({ rank: 4, dropout: 0.1 }), policy: safe(freezing) },
    "LoRA, SAFE, micro-batches, recomputation": {
      adapter: lora({ rank: 4 }),
      policy: safe(freezing),
      accumulate: 2,
      ...("freezeToFit" in safetape ? { memory } : memory),
    },
    "LoRA, SAFE, merged on freeze": { adapter: lora({ rank: 4 }), policy: safe(freezing), mergeOnFreeze: true },
    "LoRA, SAFE, prefix cache": {
      adapter: lora({ rank: 4 }),
      policy: safe(freezing),
      prefixCache: true,
      dropout: false,
    },
    AdaLoRA: { adapter: adalora({ initialRank: 4, targetRank: 2, warmup: 3, final: 3, interval: 2 }) },
    SoRA: { adapter: sora({ rank: 4 }) },
    VeRA: { adapter: vera({ rank: 8 }) },
    "AFLoRA with its freezing": {
      adapter: aflora({ rank: 4, matrices: "both" }),
      policy: afloraFreezing({ every: 3 }),
    },
    "BitFit, SAFE": { adapter: bitfit(), policy: safe(freezing) },
    "Houlsby, SAFE": { adapter: houlsby({ size: 8 }), policy: safe(freezing) },
    AdapterDrop: { adapter: lora({ rank: 4 }), policy: adapterDrop({ seed: 3 }) },
    LoRAPrune: { adapter: lora({ rank: 4 }), policy: loraPrune({ ratio: 0.3 }) },
  };
}

// Checkouts from before options were grouped have no `freezeToFit`.

/** @param {any} safetape @param {any} directory */
function saving(safetape, directory) {
  const every = STEPS / 2;
  if ("freezeToFit" in safetape) return { checkpoints: { directory, every, keep: 3 } };
  return { checkpoints: directory, checkpointEvery: every, keepCheckpoints: 3 };
}

/** @param {any} safetape @param {any} directory */
function resuming(safetape, directory) {
  return "freezeToFit" in safetape ? { checkpoints: { resume: directory } } : { resume: directory };
}

/**
 * Digests of every run of a checkout, once without interruption and once resumed from the checkpoint halfway.
 * @param {string} root
 */
async function digestRuns(root) {
  const safetape = await builtLibrary(root);
  const { Batches, createEngine, loadModel, openDirectory, Trainer } = safetape;
  const samples = Array.from({ length: 32 }, (_, row) => ({
    ids: Int32Array.from({ length: 4 + (row % 9) }, (_, i) => 5 + ((row * 7 + i * 3) % 80)),
    label: row % 2,
  }));
  const engine = await createEngine();
  /** @type {Record<string, any>} */
  const digests = {};
  for (const name of Object.keys(runsOf(safetape))) {
    const folder = mkdtempSync(join(tmpdir(), "safetape-bits-"));
    const checkpoints = await openDirectory(folder, { create: true });
    try {
      /** @param {object} checkpointOptions */
      const train = async (checkpointOptions) => {
        const model = await loadModel(engine, join(root, "examples/model"));
        const data = new Batches(samples, { size: 8, seed: 3 });
        const options = { model, data, steps: STEPS, seed: 5, ...runsOf(safetape)[name] };
        const trainer = await Trainer.create({ ...options, ...checkpointOptions });
        const { losses, freezes } = await trainer.train();
        /** @type {Record<string, string>} */
        const tensors = {};
        for (const [tensor, { data: values }] of await trainer.snapshot()) {
          tensors[tensor] = digest(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
        }
        trainer.dispose();
        model.dispose();
        const frozen = freezes.map((/** @type {any} */ { step, tensors: names, bytes, returned }) => ({
          step,
          names,
          bytes,
          returned,
        }));
        return { losses, frozen, tensors };
      };
      const whole = await train(saving(safetape, checkpoints));
      const [half = "", end = ""] = readdirSync(folder).sort();
      const saved = { half: digestTensors(join(folder, half)), end: digestTensors(join(folder, end)) };
      rmSync(join(folder, end));
      const resumed = await train(resuming(safetape, checkpoints));
      digests[name] = { whole, saved, resumed };
    } catch (error) {
      digests[name] = { error: String(error) };
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }
  engine.dispose();
  return digests;
}

/** @param {string} root */
function digestsOf(root) {
  const output = execFileSync(process.execPath, [THIS_FILE, "--digests", root], { maxBuffer: 1 << 28 });
  return JSON.parse(output.toString("utf8"));
}

/**
 * All paths at which two JSON values differ, with both values.
 * @param {any} before
 * @param {any} after
 * @returns {string[]}
 */
function differences(before, after, path = "") {
  if (typeof before !== "object" || before === null || typeof after !== "object" || after === null) {
    return Object.is(before, after) ? [] : [`${path}: ${before} and ${after}`];
  }
  const keys = [...new Set([...Object.keys(before), ...Object.keys(after)])];
  return keys.flatMap((key) => differences(before[key], after[key], path ? `${path}.${key}` : key));
}

if (process.argv[2] === "--digests") {
  const root = resolve(process.argv[3] ?? ".");
  process.stdout.write(JSON.stringify({ ...digestGoldenRuns(root), ...(await digestRuns(root)) }));
} else if (process.argv[2] === undefined) {
  console.error("No checkout is given.\nUsage: node scripts/compare-bits.mjs BEFORE [AFTER]");
  process.exitCode = 2;
} else {
  const before = digestsOf(resolve(process.argv[2]));
  const after = digestsOf(resolve(process.argv[3] ?? join(dirname(THIS_FILE), "..")));
  for (const name of Object.keys({ ...before, ...after })) {
    const lines = differences(before[name] ?? {}, after[name] ?? {});
    const failed = before[name]?.error ?? after[name]?.error;
    if (lines.length > 0 || failed) process.exitCode = 1;
    console.log(failed ? `FAILED ${name}: ${failed}` : lines.length > 0 ? `DIFFERS ${name}` : `same   ${name}`);
    for (const line of lines.slice(0, 5)) console.log(`       ${line}`);
  }
}
