// Pretrains one of the bases that the studies fine-tune, from random weights on real data. A run that was interrupted continues from its
// last checkpoint, to the same bits. Each is meant for an hour or two on two idle cores.
//
//   npm run build && node examples/bases/pretrain.mjs vit|bert|gpt2 OUT [--seed N] [--smoke]
//
// OUT then has the model, in 16 bits, log.jsonl (the loss of every step) and base.json (seed, data, metrics, time). --smoke takes a few
// seconds' worth of the data, to see whether it runs.
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { appendFile, mkdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { createEngine, full, initialiseModel, openDirectory, saveModel, Trainer } from "safetape";
import { bert } from "./bert.mjs";
import { gpt2 } from "./gpt2.mjs";
import { written } from "./texts.mjs";
import { vit } from "./vit.mjs";

const KINDS = { vit, bert, gpt2 };
const BASE_FILE = "base.json";

async function main() {
  const { positionals, values } = parseArgs({
    allowPositionals: true,
    options: { seed: { type: "string", default: "1" }, smoke: { type: "boolean", default: false } },
  });
  const [kind, out] = positionals;
  const seed = Number(values.seed);
  if (!Object.hasOwn(KINDS, kind ?? "") || out === undefined || !Number.isSafeInteger(seed)) {
    throw new Error(
      `pretrain.mjs ${process.argv.slice(2).join(" ")} is no base.\nGive vit, bert or gpt2, a folder, and a whole number as --seed.`,
    );
  }
  if (await stat(join(out, BASE_FILE)).catch(() => undefined)) {
    throw new Error(`${out} has a finished base.\nGive another folder, or remove it.`);
  }
  const base = await KINDS[kind]({ seed, smoke: values.smoke });
  await mkdir(out, { recursive: true });
  const directory = await openDirectory(out);
  const log = join(out, "log.jsonl");
  const checkpoints = join(out, "checkpoints");
  const engine = await createEngine();
  const model = await initialiseModel(engine, base.config, { seed });
  const trainer = await Trainer.create({
    model,
    adapter: full(),
    data: base.data(model.model),
    ...base.training,
    checkpoints: { directory: checkpoints, every: 50, resume: true },
    seed,
  });
  const { step: done } = trainer.progress;
  const earlier = (await logged(log)).filter(({ step }) => step <= done);
  await writeFile(log, earlier.map((line) => `${JSON.stringify(line)}\n`).join(""));
  if (done > 0) console.log(`continues behind step ${done}`);
  const before = earlier.at(-1)?.seconds ?? 0;
  const start = performance.now();
  const secondsNow = () => before + (performance.now() - start) / 1000;
  for await (const { step, totalSteps, loss, examplesPerSecond } of trainer.steps({ ahead: true })) {
    const line = { step, loss, seconds: Math.round(10 * secondsNow()) / 10 };
    await appendFile(log, `${JSON.stringify(line)}\n`);
    if (step % 50 !== 0 && step !== totalSteps) continue;
    const rate = `${examplesPerSecond.toFixed(0)} rows/s`;
    console.log(`step ${step}/${totalSteps}  loss ${loss.toFixed(4)}  ${secondsNow().toFixed(0)} s  ${rate}`);
  }
  const evaluation = await trainer.evaluate(base.dev(model.model));
  const metrics = { ...base.metrics(evaluation), loss: evaluation.loss, count: evaluation.count };
  await saveModel(directory, model, { dtype: "f16" });
  await written(directory, base.files);
  const record = {
    kind,
    seed,
    smoke: values.smoke,
    steps: trainer.progress.totalSteps,
    seconds: Math.round(secondsNow()),
    adapter: [engine.info.vendor, engine.info.architecture, engine.info.description].join(" ").trim(),
    parameters: model.model.parameters.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0),
    metrics,
    data: base.checksums,
    weights: await sha256(join(out, "model.safetensors")),
  };
  await writeFile(join(out, BASE_FILE), `${JSON.stringify(record, undefined, 1)}\n`);
  await rm(checkpoints, { recursive: true });
  console.log(JSON.stringify(metrics));
  for (const each of [trainer, model, engine]) each.dispose();
}

async function logged(path) {
  const text = await readFile(path, "utf8").catch(() => "");
  return text.split("\n").flatMap((line) => (line.endsWith("}") ? [JSON.parse(line)] : []));
}

async function sha256(path) {
  const hash = createHash("sha256");
  for await (const part of createReadStream(path)) hash.update(part);
  return hash.digest("hex");
}

try {
  await main();
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
