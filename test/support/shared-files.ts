// A program of its own: starts itself twice on one model directory, and both train from its files at the same time.
// Prints one line of JSON: each process's losses.
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { lora } from "../../src/adapter/lora";
import { Batches } from "../../src/data/batches";
import { Engine } from "../../src/engine";
import { loadModel } from "../../src/node/index";
import { Trainer } from "../../src/train/trainer";
import { testDevice } from "./device";

const run = promisify(execFile);
const [, program = "", path = "", role] = process.argv;

/** Losses of a few steps, the model loaded anew before each: the other process reads while this one does. */
async function losses(): Promise<number[]> {
  const samples = [0, 1].map((label) => ({ ids: Int32Array.of(3, 4 + label, 5), label }));
  const found: number[] = [];
  for (let seed = 0; seed < 2; seed++) {
    using engine = new Engine(await testDevice());
    using model = await loadModel(engine, path, { labels: 2 });
    const data = new Batches(samples, { size: 2 });
    using trainer = await Trainer.create({ model, adapter: lora({ rank: 2 }), data, steps: 2, seed });
    for await (const { loss } of trainer.steps()) found.push(loss);
  }
  return found;
}

async function both(): Promise<unknown[]> {
  const children = [1, 2].map(() => run(process.execPath, [program, path, "child"]));
  // JSON.parse is typed any.
  return (await Promise.all(children)).map(({ stdout }) => JSON.parse(stdout) as unknown);
}

process.stdout.write(JSON.stringify(role === "child" ? await losses() : await both()) + "\n");
