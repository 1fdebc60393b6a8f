import { writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { lora, promptTuning } from "safetape";
import { mergeIntoModel } from "safetape/analysis";
import { memoryDirectory } from "safetape/data";
import { ConfigError, DtypeError } from "safetape/engine";
import type { Adapter, Tensors } from "../../src/adapter/adapter";
import { adapterFile } from "../../src/adapter/file";
import { decodeBf16, encodeBf16 } from "../../src/base/float";
import { Random } from "../../src/base/random";
import { elements } from "../../src/base/shape";
import { mergeCommand } from "../../src/cli/merge";
import { writeCheckpoint } from "../../src/io/checkpoint";
import type { Directory } from "../../src/io/directory";
import { jsonBytes } from "../../src/io/json";
import { writeAdapterDirectory } from "../../src/io/peft";
import { readFloatTensors } from "../../src/io/safetensors";
import { createModel, loadFamily } from "../../src/model/families";
import { openDirectory } from "../../src/node/directory";
import { failure } from "../support/failure";
import { useFolder } from "../support/folder";
import { parseJson } from "../support/json";
import { tiny } from "../support/tiny";

const CONFIG = { ...tiny.llama(), dtype: "bfloat16" };
await loadFamily(CONFIG);
const model = createModel(CONFIG);
const random = new Random(5);
const values = (count: number, size: number) => Float32Array.from({ length: count }, () => random.normal() * size);

/** A model in bfloat16, with files of a tokenizer. */
async function writeBase(directory: Directory, changed: Readonly<Record<string, number>> = {}) {
  const tensors = model.parameters.map(({ name, shape }) => {
    const data = encodeBf16(
      values(elements(shape), 0.1).fill(changed[name] ?? 0, 0, changed[name] === undefined ? 0 : 1),
    );
    return { name, shape, data, dtype: "bf16" as const };
  });
  const beside = [{ file: "tokenizer.json", content: jsonBytes({}) }];
  await writeCheckpoint(directory, model.config, tensors, beside, "bfloat16");
  return new Map(tensors.map(({ name, shape, data }) => [name, { shape, data: decodeBf16(data) }]));
}

const LORA = lora({ rank: 2, alpha: 6 });

async function writeAdapter(directory: Directory, adapter: Adapter = LORA, base = "owner/name"): Promise<Tensors> {
  const tensors = new Map(
    adapter.tensors(model).map(({ name, shape }) => [name, { shape, data: values(elements(shape), 1) }] as const),
  );
  const file = adapterFile(adapter, model, tensors);
  const written = [...file.tensors].map(([name, tensor]) => ({ name, ...tensor }));
  await writeAdapterDirectory(directory, { ...file.config, base_model_name_or_path: base }, written);
  return tensors;
}

/** W + sum of weight * 3 B A in float64, rounded to f32; W where no adapter changes it. */
function expectedWeight(
  name: string,
  { shape, data }: { readonly shape: readonly number[]; readonly data: Float32Array },
  adapters: readonly { readonly tensors: Tensors; readonly weight: number }[],
): Float32Array {
  const module = name.replace(/\.weight$/, "");
  return data.map((value, i) => {
    const [row, column] = [Math.floor(i / shape[1]!), i % shape[1]!];
    let sum = value;
    for (const { tensors, weight } of adapters) {
      const [a, b] = ["A", "B"].map((part) => tensors.get(`${module}.lora_${part}.weight`));
      if (!a || !b) continue;
      for (let r = 0; r < 2; r++) sum += weight * 3 * b.data[row * 2 + r]! * a.data[r * shape[1]! + column]!;
    }
    return sum;
  });
}

const textOf = async (directory: Directory, file: string) => new TextDecoder().decode(await directory.read(file));

describe("mergeIntoModel", () => {
  test("adds the update in the model's own format, with its tokenizer, configuration and a model card", async () => {
    const [base, adapter, out] = ["base", "adapter", "out"].map((name) => memoryDirectory(name));
    const weights = await writeBase(base!);
    const tensors = await writeAdapter(adapter!);
    const seen: number[] = [];
    const result = await mergeIntoModel(adapter!, base!, out!, { onProgress: (done) => seen.push(done) });
    expect(result).toEqual({ format: "bf16", tensors: weights.size });
    expect(seen).toHaveLength(weights.size);
    const merged = await readFloatTensors(out!, "model.safetensors");
    let changed = 0;
    for (const [name, weight] of weights) {
      const expected = expectedWeight(name, weight, [{ tensors, weight: 1 }]);
      if (expected.some((value, i) => value !== weight.data[i])) changed++;
      const actual = merged.get(name)!.data;
      // bf16 has 8 bits; sums in another order may round to its neighbour.
      expected.forEach((value, i) =>
        expect(Math.abs(actual[i]! - value)).toBeLessThanOrEqual(2 ** -8 * Math.abs(value) + 1e-6),
      );
    }
    expect(changed).toBe(tensors.size / 2);
    expect(parseJson(await textOf(out!, "config.json"))).toMatchObject({ model_type: "llama", dtype: "bfloat16" });
    expect(await out!.list()).toEqual(["README.md", "config.json", "model.safetensors", "tokenizer.json"]);
    const card = await textOf(out!, "README.md");
    expect(card).toMatch(
      /^---\nbase_model: owner\/name\nlibrary_name: transformers\npipeline_tag: text-generation\ntags:\n- base_model:finetune:owner\/name\n---\n/,
    );
    expect(card).toMatch(/\[owner\/name\]\(https:\S+\) with an adapter \(`LORA`\) merged into its weights/);
  });

  test("refuses what a format cannot hold, kinds that add modules, and a head that nobody has; nothing is written", async () => {
    const [base, adapter, prompt, out] = ["base", "adapter", "prompt", "out"].map((name) => memoryDirectory(name));
    const { name } = model.parameters.find(({ shape }) => shape.length === 2)!;
    await writeBase(base!, { [name]: 1e5 });
    await writeAdapter(adapter!);
    await writeAdapter(prompt!, promptTuning({ tokens: 2 }));
    const overflow = await failure(mergeIntoModel(adapter!, base!, out!, { format: "f16" }));
    expect(overflow).toBeInstanceOf(DtypeError);
    expect(overflow.message).toMatch(
      /has the element 99\d+, which f16 cannot hold\.\nWrite it with the format bf16 or f32/,
    );
    expect((await failure(mergeIntoModel(prompt!, base!, out!))).message).toMatch(/cannot be merged/);
    const headless = await failure(mergeIntoModel(adapter!, base!, out!, { task: "sequence_classification" }));
    expect(headless).toBeInstanceOf(ConfigError);
    expect(headless.message).toMatch(/^Neither the model in base nor the adapter in adapter has score\.weight/);
    expect(await out!.list()).toEqual([]);
  });
});

describe("safetape merge --into", () => {
  const path = useFolder();
  const lines: string[] = [];
  const run = (places: readonly string[], raw: object) =>
    mergeCommand(places, { quiet: true, ...raw }, (line) => lines.push(line));
  const open = (name: string) => openDirectory(path(name), { create: true });

  test("writes the sum of weighted adapters, and one of any kind as it is", async () => {
    const weights = await writeBase(await open("base"));
    const [one, two] = [await writeAdapter(await open("one")), await writeAdapter(await open("two"))];
    await run([`${path("one")}:0.5`, `${path("two")}:-2`], {
      into: path("base"),
      out: path("sum"),
      format: "f32",
      baseModel: "a/b",
    });
    expect(lines.pop()).toBe(`${weights.size} tensors in f32, in ${path("sum")}`);
    const merged = await readFloatTensors(await open("sum"), "model.safetensors");
    for (const [name, weight] of weights) {
      const expected = expectedWeight(name, weight, [
        { tensors: one, weight: 0.5 },
        { tensors: two, weight: -2 },
      ]);
      const actual = merged.get(name)!.data;
      expected.forEach((value, i) =>
        expect(Math.abs(actual[i]! - value), name).toBeLessThan(1e-5 * Math.max(1, Math.abs(value))),
      );
    }
    expect(await textOf(await open("sum"), "README.md")).toMatch(/^---\nbase_model: a\/b\n/);
    await run([path("one")], { into: path("base"), out: path("single"), json: true });
    expect(parseJson(lines.pop()!)).toEqual({ format: "bf16", tensors: weights.size });
  });

  test("refuses options that do not fit, and never writes over the model or a card of somebody else", async () => {
    await writeBase(await open("base"));
    await writeAdapter(await open("one"));
    const [into, out] = [path("base"), path("out")];
    const refused = async (raw: object) => (await failure(run([path("one")], { out, ...raw }))).message;
    expect(await refused({ into, out: path("base", "..", "base") })).toMatch(/^--out is .*, which is read from\./);
    expect(await refused({ into, method: "svd" })).toMatch(/as it is\.\nLeave out/);
    expect(await refused({ format: "f16" })).toMatch(/^--format is of a model\.\nGive --into/);
    expect(await refused({ labels: "a,b" })).toMatch(/^--labels is of a model/);
    await open("out");
    writeFileSync(path("out", "README.md"), "mine");
    await run([path("one")], { into, out });
    expect(await textOf(await open("out"), "README.md")).toBe("mine");
  });
});
