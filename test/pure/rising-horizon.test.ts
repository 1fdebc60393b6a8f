import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadPlugins } from "../../src/cli/plugin/load";
import { policyOf } from "../../src/cli/plugin/policies";
import type { FreezeContext, FreezePolicy } from "../../src/freeze/policy";

let forget: () => void = () => undefined;
beforeAll(async () => void (forget = await loadPlugins(["examples/studies/rising-horizon.mjs"])));
afterAll(() => forget());

function risingHorizon(options: object = {}): FreezePolicy {
  const policy = policyOf({ policy: "rising_horizon", ...options });
  if (policy.kind !== "freezing") throw new Error("It freezes.");
  return policy;
}

/** A run of four layers with a tensor each, of which each returns a third of the bytes and FLOPs. */
function context(scores: readonly number[], frozen: readonly number[] = []): FreezeContext {
  const unused = () => {
    throw new Error("The policy does not read this.");
  };
  const live = [0, 1, 2, 3].filter((layer) => !frozen.includes(layer));
  return {
    step: 10,
    totalSteps: 100,
    stepsPerEpoch: 10,
    layers: 4,
    live: new Map(live.map((layer) => [layer, [`layer.${layer}.a`]])),
    importance: () => Promise.resolve(new Map(scores.map((score, layer) => [layer, score]))),
    sensitivity: unused,
    elementSensitivity: unused,
    explain: unused,
    bytesWith: unused,
    effect: ({ length }) => ({ savedBytes: 100 * length, stateBytes: 0, flops: length }),
  };
}

describe("the rising horizon", () => {
  /** Layers that are frozen, by scoring. */
  async function decisions(scores: readonly (readonly number[])[], options: object = {}) {
    const state = risingHorizon({ every: 5, ...options }).start({ layers: 4, totalSteps: 100, stepsPerEpoch: 10 });
    const frozen: number[] = [];
    const chosen: number[][] = [];
    for (const each of scores) {
      const all = context(each, frozen);
      const names = await state.decide(all);
      const layers = [...all.live].filter(([, tensors]) => names.includes(tensors[0]!)).map(([layer]) => layer);
      frozen.push(...layers);
      chosen.push(layers);
    }
    return { chosen, state };
  }
  /** Scores that grow evenly, by so much a scoring. */
  const even = (growths: readonly number[], count: number) =>
    Array.from({ length: count }, (_, i) => growths.map((growth) => 1 + growth * i));

  it("freezes the longest prefix whose share of the growth is at most `exchange` times its share of the return", async () => {
    // Shares of growth 0.1, 0.2, 0.4 against half of 1/3, 2/3, 3/3: 0.1 <= 0.167, 0.2 <= 0.333, 0.4 <= 0.5.
    expect((await decisions(even([1, 1, 2, 6], 4))).chosen.at(-1)).toEqual([0, 1, 2]);
    // 0.1, 0.2, 0.7: the third layer grows too fast.
    expect((await decisions(even([1, 1, 5, 3], 4))).chosen.at(-1)).toEqual([0, 1]);
    // 0.2 > 0.167, but 0.3 <= 0.333: what the second layer returns pays for the first.
    expect((await decisions(even([2, 1, 5, 2], 4))).chosen.at(-1)).toEqual([0, 1]);
    expect((await decisions(even([2, 1, 5, 2], 4), { exchange: 0.1 })).chosen.at(-1)).toEqual([]);
  });

  it("decides nothing before it has `window` scorings, and then of the layers that still learn", async () => {
    const { chosen } = await decisions(even([1, 1, 5, 3], 6));
    expect(chosen.slice(0, 3)).toEqual([[], [], []]);
    // Layers 2 and 3 are left: 5/8 of the growth for all of the return.
    expect(chosen.slice(4)).toEqual([[], []]);
    expect((await decisions(even([1, 1, 5, 3], 3), { window: 3 })).chosen.at(-1)).toEqual([0, 1]);
  });

  it("lets a layer with noisy scores learn longer", async () => {
    const withLayer0 = (scores: readonly number[]) =>
      even([0, 0, 0, 1], 4).map(([, ...others], i) => [scores[i]!, ...others]);
    // Slopes 0.4 and -0.4 beside the 1 of the highest layer.
    const narrow = { margin: 0, exchange: 0.2 };
    expect((await decisions(withLayer0([1, 3, 1, 3]), narrow)).chosen.at(-1)).toEqual([]);
    const falling = withLayer0([3, 1, 3, 1]);
    expect((await decisions(falling, narrow)).chosen.at(-1)).toEqual([0, 1, 2]);
    // Slope -0.4, residual 3.2, standard error sqrt(3.2 / 2 / 5) = 0.566: growth of up to 0.166 at one, 0.732 at two of them.
    expect((await decisions(falling, { margin: 1 })).chosen.at(-1)).toEqual([0, 1, 2]);
    expect((await decisions(falling, { margin: 4 })).chosen.at(-1)).toEqual([]);
  });

  it("keeps the highest layer, and freezes all others where nothing grows", async () => {
    expect((await decisions(even([0, 0, 0, 0], 5))).chosen).toEqual([[], [], [], [0, 1, 2], []]);
    const policy = risingHorizon();
    expect([2, 3].map((layer) => policy.mayFreeze!({ name: "a", layer }, 4))).toEqual([true, false]);
  });

  it("continues from a checkpoint, and refuses what is not one of its own", async () => {
    const scores = even([1, 1, 5, 3], 4);
    const { state } = await decisions(scores.slice(0, 3));
    const resumed = risingHorizon({ every: 5 }).start({ layers: 4, totalSteps: 100, stepsPerEpoch: 10 });
    resumed.restore!(JSON.parse(JSON.stringify(state.save!())));
    expect(await resumed.decide(context(scores[3]!))).toEqual(["layer.0.a", "layer.1.a"]);
    expect(resumed.record!()).toMatchObject({ history: [{}, {}, {}, { frozen: [0, 1] }] });
    expect(() => resumed.restore!([{ step: "first" }])).toThrow(/rising_horizon in a checkpoint/);
  });

  it("refuses options that it does not have, and values that make no sense", () => {
    expect(() => risingHorizon({ window: 2 })).toThrow(
      /rising_horizon of .* throws: window is 2; options are exchange, /,
    );
    expect(() => risingHorizon({ exchange: -1 })).toThrow(/exchange is -1;/);
    expect(() => risingHorizon({ share: 1 })).toThrow(/share is 1;/);
  });
});
