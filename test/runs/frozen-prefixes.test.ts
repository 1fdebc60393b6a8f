import { afterAll, describe, expect, it } from "vitest";
import { initialiseModel, Trainer } from "safetape";
import { sumBytes } from "safetape/engine";
import { ADAPTER_KINDS, makeAdapter } from "safetape/analysis";
import { useEngine } from "../support/engine";
import { tiny, tinyData } from "../support/tiny";

const engine = await useEngine();
const model = await initialiseModel(engine, tiny.bert());
afterAll(() => model.dispose());

const LAYERS = 3;
/** Options of an adapter kind where its defaults do not fit the tiny model. */
const OPTIONS: Readonly<Record<string, object>> = {
  adalora: { initialRank: 4, targetRank: 2, warmupSteps: 1, finalSteps: 1, every: 1 },
  // Else the three layers share one kept state, which they return together.
  meft: { stateEvery: 1 },
  prompt: { tokens: 4 },
  p_tuning: { tokens: 4 },
  prefix_tuning: { tokens: 4 },
  vera: { rank: 4 },
};

function createTrainer(kind: string): Promise<Trainer> {
  const adapter = makeAdapter({ kind, ...OPTIONS[kind] });
  return Trainer.create({ model, adapter, data: tinyData(model), steps: 3, recover: false });
}

describe("freezing the lowest live group, again and again, returns bytes and lifts the horizon", () => {
  it.each(ADAPTER_KINDS.filter((kind) => !["prompt", "p_tuning"].includes(kind)))("%s", async (kind) => {
    using trainer = await createTrainer(kind);
    expect(trainer.horizon).toBe(0);
    for (let layer = 0; layer < LAYERS; layer++) {
      const before = engine.ledger.live;
      const { layers, returned } = await trainer.freeze(trainer.state.liveByLayer().get(layer)!);
      const after = engine.ledger.live;
      expect(layers).toEqual([layer]);
      expect(returned.saved, `kept bytes that layer ${layer} returns`).toBeGreaterThan(0);
      expect(sumBytes(after), `bytes without layer ${layer}`).toBeLessThan(sumBytes(before));
      expect(after, "ledger against plan").toEqual(trainer.predictedBytes());
      expect(trainer.horizon).toBe(layer + 1 < LAYERS ? layer + 1 : undefined);
    }
  });
});

it("a prompt is no layer's: backward reaches the lowest layer until the prompt itself is frozen", async () => {
  using trainer = await createTrainer("prompt");
  expect(trainer.state.liveByLayer().size).toBe(0);
  expect(trainer.horizon).toBe(0);
  const { returned } = await trainer.freeze(["prompt_embeddings"]);
  expect(returned.saved).toBeGreaterThan(0);
  expect(trainer.horizon).toBeUndefined();
});
