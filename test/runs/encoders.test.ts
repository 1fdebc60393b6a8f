import { expect, it } from "vitest";
import { houlsby, initialiseModel, loadAdapter, lora, memoryDirectory, safe, saveAdapter, Trainer } from "safetape";
import { adapterLogits } from "../../scripts/interop-case";
import { useEngine } from "../support/engine";
import { ENCODERS, layerCount, tiny, tinyData } from "../support/tiny";

const engine = await useEngine();

it.each(ENCODERS.flatMap((family) => ["lora", "houlsby"].map((kind) => [family, kind] as const)))(
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
      recompute: kind === "lora" ? "none" : "layers",
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

it("ALBERT's one layer cannot be frozen layer by layer, which is said before a run", async () => {
  using model = await initialiseModel(engine, tiny.albert(layerCount(2)));
  const run = Trainer.create({ model, adapter: lora(), data: tinyData(model), steps: 3, policy: safe() });
  await expect(run).rejects.toThrow(/nothing to freeze/);
});
