import { expect, it } from "vitest";
import { houlsby, lora, safe, Trainer } from "safetape";
import { Batches } from "safetape/data";
import type { Adapter, FreezePolicy, LoadedModel, TrainerOptions } from "safetape";
import { blocksFamily, randomModel } from "../support/blocks-family";
import { useEngine } from "../support/engine";
import { tinySamples } from "../support/tiny";

const engine = await useEngine();

function trainerOptions(model: LoadedModel, adapter: Adapter, policy: FreezePolicy): TrainerOptions {
  const samples = tinySamples(24, { longest: 16, areTokens: true });
  const data = new Batches(samples, { size: 4, seed: 3, maxLength: 16, multiple: 16, labels: "token" });
  return { model, adapter, policy, data, steps: 12, seed: 5, optimizer: { learningRate: 1e-2 } };
}

const layerByName = (name: string): number | undefined => {
  const [, layer] = /^blocks\.(\d+)\./.exec(name) ?? [];
  return layer === undefined ? undefined : Number(layer);
};

// The family gives the layer of a parameter; nothing may read it from a name.
it.each([
  ["lora", () => lora({ rank: 4, targets: "all-linear" })],
  ["houlsby", () => houlsby({ size: 4 })],
])("SAFE freezes %s in a family whose layers are called blocks.N", async (_, makeAdapter) => {
  using model = await randomModel(engine, blocksFamily());
  const policy = safe({ every: 1, maxWarmup: 2, targetFreezeFraction: 0.75, rampEnd: 4 });
  using trainer = await Trainer.create(trainerOptions(model, makeAdapter(), policy));
  const frozenLayers = new Set<number>();
  const horizons: (number | undefined)[] = [];
  for await (const { bytes, freezes, horizon } of trainer.steps()) {
    for (const { layers, tensors } of freezes) {
      const trained = [...trainer.state.specs.keys()].filter((name) => layers.includes(layerByName(name) ?? -1));
      expect(new Set(tensors), `all tensors of layers ${layers.join()}`).toEqual(new Set(trained));
      for (const layer of layers) frozenLayers.add(layer);
    }
    expect(bytes, "ledger against plan").toEqual(trainer.predictedBytes());
    horizons.push(horizon);
  }
  expect(frozenLayers.size, "layers frozen").toBeGreaterThan(0);
  const live = [...trainer.state.live.keys()].flatMap((name) => layerByName(name) ?? []);
  expect(horizons[0], "horizon at first").toBe(0);
  expect(horizons.at(-1), "horizon at the end").toBe(Math.min(...live));
  expect(horizons.at(-1), "horizon at the end").toBeGreaterThan(0);
});
