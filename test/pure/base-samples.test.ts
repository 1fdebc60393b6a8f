import { describe, expect, test } from "vitest";
import { lora } from "safetape";
import { mergeAdapters } from "safetape/analysis";
import { memoryDirectory } from "safetape/data";
import { adapterFile } from "../../src/adapter/file";
import { encodeBf16, encodeF16 } from "../../src/base/float";
import { Random } from "../../src/base/random";
import { elements } from "../../src/base/shape";
import { adapterMetadata, baseSamples, differingWeight, keptSamples } from "../../src/io/base-samples";
import { writeCheckpoint } from "../../src/io/checkpoint";
import type { Directory } from "../../src/io/directory";
import { writeAdapterDirectory } from "../../src/io/peft";
import { createModel, loadFamily } from "../../src/model/families";
import { tiny } from "../support/tiny";

const CONFIG = tiny.llama();
await loadFamily(CONFIG);
const model = createModel(CONFIG);

type Format = "f32" | "f16" | "bf16";

/** A model whose values follow from a seed; `changed` gets another value in the middle of it. */
async function baseOf(seed: number, format: Format = "f32", changed?: string): Promise<Directory> {
  const random = new Random(seed);
  const tensors = model.parameters.map(({ name, shape }) => {
    const data = Float32Array.from({ length: elements(shape) }, () => random.normal() * 0.02);
    if (name === changed) data[data.length / 2]! *= 1.02;
    const stored = format === "f32" ? data : format === "f16" ? encodeF16(data) : encodeBf16(data);
    return { name, shape, data: stored, dtype: format };
  });
  const directory = memoryDirectory(`${seed} ${format}`);
  await writeCheckpoint(directory, model.config, tensors);
  return directory;
}

/** A LoRA with what tells its base model from others. */
async function adapterOn(samples: string | undefined): Promise<Directory> {
  const adapter = lora({ rank: 1 });
  const tensors = new Map(
    adapter.tensors(model).map(({ name, shape }) => [name, { shape, data: new Float32Array(elements(shape)).fill(1) }]),
  );
  const file = adapterFile(adapter, model, tensors);
  const written = [...file.tensors].map(([name, tensor]) => ({ name, ...tensor }));
  const directory = memoryDirectory("adapter");
  await writeAdapterDirectory(directory, file.config, written, [], adapterMetadata(samples));
  return directory;
}

describe("what an adapter's file keeps of its base model", () => {
  test("tells it from another one of the same shapes, and from one that a single matrix of the last layer differs in", async () => {
    const samples = await baseSamples(await baseOf(1), model);
    const adapter = await adapterOn(samples);
    expect(await keptSamples(adapter)).toBe(samples);
    expect(await differingWeight(adapter, await baseOf(2), model)).toBe("model.layers.0.self_attn.q_proj.weight");
    const changed = "model.layers.2.self_attn.v_proj.weight";
    expect(await differingWeight(adapter, await baseOf(1, "f32", changed), model)).toBe(changed);
    // Little beside an adapter.
    expect(samples!.length).toBeLessThan(1500);
  });

  test.each<[Format, Format]>([
    ["f32", "f32"],
    ["f32", "f16"],
    ["f32", "bf16"],
    ["f16", "bf16"],
    ["bf16", "f32"],
  ])("is the same for a model in %s and in %s, wherever it lies", async (trained, used) => {
    for (let seed = 0; seed < 20; seed++) {
      const adapter = await adapterOn(await baseSamples(await baseOf(seed, trained), model));
      expect(await differingWeight(adapter, await baseOf(seed, used), model)).toBeUndefined();
    }
  });

  test("is nothing where the file has none, or what is there is not of this kind", async () => {
    const other = await baseOf(2);
    for (const samples of [undefined, "", "[]", '{"model.layers.0.self_attn.q_proj.weight": "xyz"}', '{"a": "0000"}']) {
      expect(await differingWeight(await adapterOn(samples), other, model), samples).toBeUndefined();
    }
  });

  test("stays with adapters that are merged, if it is that of all", async () => {
    const [one, two] = [await baseSamples(await baseOf(1), model), await baseSamples(await baseOf(2), model)];
    const keptOf = async (...each: (string | undefined)[]) => {
      const out = memoryDirectory("out");
      const adapters = await Promise.all(each.map(async (samples) => ({ adapter: await adapterOn(samples) })));
      await mergeAdapters(adapters, out, { method: "cat" });
      return keptSamples(out);
    };
    expect(await keptOf(one, one)).toBe(one);
    expect(await keptOf(one, two)).toBeUndefined();
    expect(await keptOf(one, undefined)).toBeUndefined();
  });
});
