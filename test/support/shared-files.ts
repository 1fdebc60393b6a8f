// A separate program that starts itself twice on one model directory, so that two processes train from its files at the same
// time. It prints one line of JSON: the losses of each process.
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

/** The losses of two short runs, each of which loads the model, so that both processes read at the same time. */
async function trainTwice(): Promise<number[]> {
  const samples = [0, 1].map((label) => ({ ids: Int32Array.of(3, 4 + label, 5), label }));
  const losses: number[] = [];
  for (let seed = 0; seed < 2; seed++) {
    using engine = new Engine(await testDevice());
    using model = await loadModel(engine, path, { labels: 2 });
    const data = new Batches(samples, { size: 2 });
    using trainer = await Trainer.create({ model, adapter: lora({ rank: 2 }), data, steps: 2, seed });
    for await (const { loss } of trainer.steps()) losses.push(loss);
  }
  return losses;
}

async function runBoth(): Promise<unknown[]> {
  const children = [1, 2].map(() => run(process.execPath, [program, path, "child"]));
  // JSON.parse is typed any.
  return (await Promise.all(children)).map(({ stdout }) => JSON.parse(stdout) as unknown);
}

process.stdout.write(JSON.stringify(role === "child" ? await trainTwice() : await runBoth()) + "\n");
