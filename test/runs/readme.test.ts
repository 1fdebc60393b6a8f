import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { fixed, initialiseModel, lora, Trainer } from "safetape";
import { Batches } from "safetape/data";
import type { Adapter, FreezePolicy, Sample } from "safetape";
import { useEngine } from "../support/engine";
import { tiny } from "../support/tiny";

/** The code blocks of the README, and the adapter of the guide, run in this folder, as a reader would run them. */
const FOLDER = join("test", ".cache", `readme-${process.env["SAFETAPE_ADAPTER"] ?? "any"}`);
const pages = ["README.md", "docs/guide/methods.md"].map((page) => readFileSync(page, "utf8")).join("\n");
const blocks = [...pages.matchAll(/```js\n([\s\S]*?)```/g)].map(([, code = ""]) => code);

const samples: Sample[] = Array.from({ length: 8 }, (_, i) => ({ ids: Int32Array.of(2, 3 + i, 4), label: i % 2 }));

const engine = await useEngine();
beforeAll(() => void mkdirSync(FOLDER, { recursive: true }));
afterAll(() => rmSync(FOLDER, { recursive: true, force: true }));

/** Runs code as a module and gives its exports. */
async function load<T>(name: string, code: string): Promise<T> {
  const path = join(process.cwd(), FOLDER, `${name}.mjs`);
  writeFileSync(path, code);
  return (await import(/* @vite-ignore */ path)) as T;
}

function blockWith(text: string): string {
  const code = blocks.find((block) => block.includes(text));
  if (code === undefined) throw new Error(`README.md and docs/guide/methods.md have no code block with ${text}.`);
  return code;
}

describe("README", () => {
  it("shows a policy that freezes from the bottom", async () => {
    const code = blockWith("bottomUp");
    expect(code.split("\n").length, "lines").toBeLessThan(40);
    const { bottomUp } = await load<{ bottomUp: (every: number) => FreezePolicy }>("policy", code);
    using model = await initialiseModel(engine, tiny.bert());
    const data = new Batches(samples, { size: 4 });
    using trainer = await Trainer.create({ model, adapter: lora(), data, steps: 6, policy: bottomUp(2) });
    const { freezes } = await trainer.train();
    expect(freezes.map(({ step, layers }) => [step, ...layers])).toEqual([
      [2, 0],
      [4, 1],
    ]);
  });

  it("shows an adapter that learns, freezes and returns memory", async () => {
    const code = blockWith("outputScale");
    expect(code.split("\n").length, "lines").toBeLessThan(40);
    const { outputScale } = await load<{ outputScale: (...targets: string[]) => Adapter }>("adapter", code);
    using model = await initialiseModel(engine, tiny.bert());
    const data = new Batches(samples, { size: 8, shuffle: false });
    using trainer = await Trainer.create({
      model,
      adapter: outputScale("key", "value", "intermediate.dense"),
      data,
      steps: 12,
      dropout: false,
      optimizer: { learningRate: 0.1 },
      policy: fixed([{ beforeStep: 8, tensors: ["layer.0."] }]),
    });
    const { lossFirst, lossLast, savedBytesFirst, savedBytesLast } = await trainer.train();
    expect(lossLast).toBeLessThan(lossFirst);
    expect(savedBytesLast).toBeLessThan(savedBytesFirst);
  });

  it("shows a complete fine-tuning in twenty lines", async () => {
    const code = blockWith("SafeTrainer.create");
    const out = join(FOLDER, "adapter");
    const shortened = code.replace("epochs: 2", "steps: 2").replace('saveAdapter("adapter"', `saveAdapter("${out}"`);
    await load("example", shortened);
    expect(existsSync(join(out, "adapter_model.safetensors")), "the saved adapter").toBe(true);
  });
});
