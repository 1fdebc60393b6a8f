import { expect, it } from "vitest";
import { generate, initialiseModel, loadAdapter, loadModel, lora, saveAdapter, saveMerged, Trainer } from "safetape";
import { makeBatch, memoryDirectory } from "safetape/data";
import { adapterLogits } from "../../scripts/interop-case";
import { relativeError } from "../../src/base/relative-error";
import { useEngine } from "../support/engine";
import { DECODERS, layerCount, tiny, tinyData } from "../support/tiny";

const engine = await useEngine();

const batchOf = (ids: readonly number[]) => {
  const sample = { ids: Int32Array.from(ids), label: Int32Array.from(ids) };
  return makeBatch([sample], { size: 1, length: ids.length, labels: "token", padId: 0 });
};

/** Weights large enough for visible effects. */
const config = (family: (typeof DECODERS)[number]) => tiny[family]({ ...layerCount(2), initializer_range: 0.3 });

it.each(DECODERS)(
  "%s is trained, continues texts with a cache as without, and is saved, loaded and merged",
  async (family) => {
    using model = await initialiseModel(engine, config(family));
    const adapter = lora({ rank: 2, alpha: 8, targets: "all-linear" });
    using trainer = await Trainer.create({
      model,
      adapter,
      data: tinyData(model),
      steps: 3,
      optimizer: { learningRate: 0.02 },
    });
    for await (const { bytes } of trainer.steps())
      expect(bytes, "ledger against plan").toEqual(trainer.predictedBytes());
    const tensors = await trainer.state.snapshot();
    const logits = async (ids: readonly number[]) => (await adapterLogits(model, adapter, tensors, batchOf(ids))).data;

    const text = [3, 14, 15, 9, 26];
    const [continued] = await generate(model, [text], { weights: { adapter, tensors }, maxNewTokens: 5, endIds: [] });
    for (const next of continued!.ids) {
      const last = (await logits(text)).slice(-model.model.vocabularySize);
      expect(next, `after ${text.length} tokens`).toBe(last.indexOf(Math.max(...last)));
      text.push(next);
    }

    const expected = await logits(text);
    const folder = memoryDirectory("adapter");
    await saveAdapter(folder, trainer);
    const loaded = await loadAdapter(folder, model);
    const again = await adapterLogits(model, loaded.adapter, loaded.tensors, batchOf(text));
    expect(relativeError(again.data, expected)).toBe(0);
    const mergedFolder = memoryDirectory("merged");
    await saveMerged(mergedFolder, trainer);
    using merged = await loadModel(engine, mergedFolder);
    const fromMerged = await adapterLogits(merged, lora({ rank: 2 }), new Map(), batchOf(text));
    expect(relativeError(fromMerged.data, expected)).toBeLessThan(1e-5);
  },
);
