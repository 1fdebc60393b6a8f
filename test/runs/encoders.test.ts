import { describe, expect, it } from "vitest";
import { fixed, houlsby, initialiseModel, loadAdapter, lora, meft, safe, saveAdapter, Trainer } from "safetape";
import { memoryDirectory } from "safetape/data";
import type { TrainerOptions } from "safetape";
import { adapterLogits } from "../../scripts/interop-case";
import { useEngine } from "../support/engine";
import { ENCODERS, layerCount, tiny, tinyData } from "../support/tiny";
import { some } from "../support/long";

const engine = await useEngine();

const trained = ENCODERS.flatMap((family) => ["lora", "houlsby"].map((kind) => [family, kind] as const));
it.each(some(trained, 3))(
  "%s is trained with %s in the memory of its plan, and its adapter loads again",
  async (family, kind) => {
    using model = await initialiseModel(engine, tiny[family](layerCount(2)));
    const adapter = kind === "lora" ? lora({ rank: 2, targets: "all-linear" }) : houlsby({ size: 3 });
    using trainer = await Trainer.create({
      model,
      adapter,
      data: tinyData(model),
      steps: 3,
      optimizer: { learningRate: 0.02 },
      memory: { recompute: kind === "lora" ? "none" : "layers" },
    });
    for await (const { bytes, loss } of trainer.steps()) {
      expect(loss).toBeLessThan(2);
      expect(bytes, "ledger against plan").toEqual(trainer.predictedBytes());
    }
    const tensors = await trainer.state.snapshot();
    const batch = tinyData(model).next();
    const expected = await adapterLogits(model, adapter, tensors, batch);
    const folder = memoryDirectory("adapter");
    await saveAdapter(folder, trainer);
    const loaded = await loadAdapter(folder, model);
    expect(await adapterLogits(model, loaded.adapter, loaded.tensors, batch)).toEqual(expected);
  },
);

/** Losses of a run of Swin in whose course the first blocks freeze, over the stages in order. */
async function swinLosses(
  family: "swin" | "swinv2",
  weights: "f32" | "nf4",
  options: Partial<TrainerOptions> = {},
): Promise<number[]> {
  using model = await initialiseModel(engine, tiny[family](), { weights });
  const freezes = fixed([
    { beforeStep: 3, tensors: [".blocks.0.", ".blocks.1."].map((block) => `layers.0${block}`) },
    { beforeStep: 5, tensors: ["layers.1.blocks.0.", "downsample."] },
  ]);
  const adapter = lora({ rank: 2, targets: "all-linear" });
  const settings = { model, adapter, data: tinyData(model), steps: 7, policy: freezes, dropout: false };
  using trainer = await Trainer.create({ ...settings, optimizer: { learningRate: 0.02 }, ...options });
  const losses: number[] = [];
  for await (const { bytes, loss } of trainer.steps()) {
    expect(bytes, "ledger against plan").toEqual(trainer.predictedBytes());
    losses.push(loss);
  }
  return losses;
}

describe.each(some(["swinv2", "swin"] as const, 2))("%s, whose layers differ in width,", (family) => {
  it("has the same losses where layers are recomputed, and where what enters a live layer is cached", async () => {
    const plain = await swinLosses(family, "nf4");
    expect(await swinLosses(family, "nf4", { memory: { recompute: "layers" }, prefixCache: true })).toEqual(plain);
  });

  it("has nearly the same losses where frozen adapters go into the weights", async () => {
    const plain = await swinLosses(family, "f32");
    const merged = await swinLosses(family, "f32", { mergeOnFreeze: true });
    merged.forEach((loss, i) => expect(Math.abs(loss - plain[i]!), `step ${i}`).toBeLessThan(1e-5));
  });

  it("is probed and frozen by SAFE", async () => {
    using model = await initialiseModel(engine, tiny[family]());
    const policy = safe({ every: 1, maxWarmup: 2, targetFreezeFraction: 0.75, rampEnd: 4 });
    using trainer = await Trainer.create({
      model,
      adapter: lora({ rank: 2 }),
      data: tinyData(model),
      steps: 8,
      policy,
    });
    const frozen: number[] = [];
    for await (const { bytes, freezes } of trainer.steps()) {
      expect(bytes, "ledger against plan").toEqual(trainer.predictedBytes());
      frozen.push(...freezes.flatMap(({ layers }) => layers));
    }
    expect(frozen).not.toEqual([]);
  });

  it("adapts the layers that are named, which PEFT finds in the file by their paths", async () => {
    using model = await initialiseModel(engine, tiny[family]());
    const adapter = lora({ rank: 2, layers: [1, 2] });
    const layers = new Set(adapter.tensors(model.model).map(({ layer }) => layer));
    expect([...layers]).toEqual([1, 2]);
    expect(adapter.peftConfig(model.model, 1)["layers_to_transform"]).toBeNull();
  });

  it("is refused for reversible layers", async () => {
    using model = await initialiseModel(engine, tiny[family]());
    const run = Trainer.create({ model, adapter: meft(), data: tinyData(model), steps: 1 });
    await expect(run).rejects.toThrow(/not attention followed by a feed-forward of one width/);
  });
});

it("ALBERT's one layer cannot be frozen layer by layer, which is said before a run", async () => {
  using model = await initialiseModel(engine, tiny.albert(layerCount(2)));
  const run = Trainer.create({ model, adapter: lora(), data: tinyData(model), steps: 3, policy: safe() });
  await expect(run).rejects.toThrow(/nothing to freeze/);
});
