import { describe, expect, it } from "vitest";
import { afloraFreezing } from "../../src/freeze/aflora";
import { AfloraSchedule, belowThreshold, publishedFraction } from "../../src/freeze/aflora-schedule";
import { adapterDrop } from "../../src/freeze/adapter-drop";
import { makePolicy } from "../../src/freeze/make";
import { freezeToFit } from "../../src/freeze/freeze-to-fit";
import type { FreezeContext, FreezePolicyState, LayerDropPolicy } from "../../src/freeze/policy";
import { resting } from "../../src/freeze/resting";
import { sparseMasks } from "../../src/freeze/sparse-adapter";
import { upperLayers } from "../../src/freeze/upper-layers";
import type { TensorPlace } from "../../src/model/model";
import { withoutLastGroup } from "../../src/train/freezing/freezable";
import type { TrainableSpec } from "../../src/train/tensors/specs";
import { sensitivityTests } from "../../src/ops/sensitivity.cases";
import { AdaloraBudget, tripletBudget } from "../../src/adapter/adalora-budget";
import type { AdapterRun } from "../../src/adapter/adapter";
import { aflora } from "../../src/adapter/aflora";
import { chosenLayers } from "../../src/adapter/targets";
import { failure } from "../support/failure";

/** The context of a run with one tensor per layer, whose memory depends on the lowest live layer. */
function context(layers: number, scores: readonly number[], frozen: readonly number[] = []): FreezeContext {
  const live = new Map(
    Array.from({ length: layers }, (_, layer) => [layer, [`layer.${layer}.a`]] as const).filter(
      ([layer]) => !frozen.includes(layer),
    ),
  );
  return {
    step: 10,
    totalSteps: 100,
    stepsPerEpoch: 10,
    layers,
    live,
    importance: () => Promise.resolve(new Map(scores.map((score, layer) => [layer, score]))),
    sensitivity: () => Promise.reject(new Error("this score is not part of the test")),
    elementSensitivity: () => Promise.reject(new Error("this score is not part of the test")),
    explain: () => {
      throw new Error("this score is not part of the test");
    },
    effect: () => ({ savedBytes: 0, stateBytes: 0, flops: 0 }),
    // 100 bytes for the lowest live layer and each one above it, and 1 byte for each live adapter.
    bytesWith(tensors) {
      const remaining = [...live]
        .filter(([, names]) => !names.some((name) => tensors.includes(name)))
        .map(([layer]) => layer);
      return 100 * (layers - Math.min(layers, ...remaining)) + remaining.length;
    },
  };
}

describe("AFLoRA's schedule (eq. 5)", () => {
  // t_i = 10 and T - t_f = 30: 1 - (1 - (t - 10) / 20)^3 by hand.
  const newSchedule = (): AfloraSchedule => new AfloraSchedule({ start: 10, end: 30 });

  it.each([
    [9, 0],
    [10, 0],
    [15, 0.578125],
    [20, 0.875],
    [25, 0.984375],
    [29, 0.999875],
    [30, 1],
    [99, 1],
  ])("has frozen, at step %i, the share %f", (step, share) => {
    expect(newSchedule().fraction(step)).toBeCloseTo(share, 12);
  });

  it("freezes the lowest scores first, as many as are due, and everything at the end", () => {
    const schedule = newSchedule();
    const scores = new Map([
      ["a", 4],
      ["b", 1],
      ["c", 3],
      ["d", 2],
    ]);
    // floor(4 * 0.578125) = 2, floor(4 * 0.875) = 3, 4.
    expect(schedule.next(15, scores)).toEqual(["b", "d"]);
    const remaining = new Map([
      ["a", 0.5],
      ["c", 3],
    ]);
    expect(schedule.next(20, remaining)).toEqual(["a"]);
    expect(schedule.next(21, new Map([["c", 3]])), "matrices due one step later").toEqual([]);
    expect(schedule.next(30, new Map([["c", 3]]))).toEqual(["c"]);
  });
});

describe("AFLoRA's simultaneous freezing (table 6)", () => {
  const moduleOf = (name: string): string => name.slice(0, 1);
  // Means of A and B: 5, 2, 3, 4.
  const scores = new Map(
    Object.entries({ "p.A": 1, "p.B": 9, "q.A": 2, "q.B": 2, "r.A": 6, "r.B": 0, "s.A": 4, "s.B": 4 }),
  );

  it("freezes both matrices of a module by the mean of their scores, as many modules as are due", () => {
    const schedule = new AfloraSchedule({ start: 10, end: 30 }, moduleOf);
    // floor(4 * 0.578125) = 2 modules.
    expect(schedule.next(15, scores)).toEqual(["q.A", "q.B", "r.A", "r.B"]);
    const left = new Map([...scores].filter(([name]) => /^[ps]/.test(name)));
    const resumed = AfloraSchedule.restore(schedule.save(), moduleOf);
    for (const each of [schedule, resumed]) {
      // floor(4 * 0.875) = 3 modules.
      expect(each.next(20, left)).toEqual(["s.A", "s.B"]);
      expect(each.record()).toMatchObject({ units: 4 });
    }
  });

  it("has the published code compare that mean with its threshold", () => {
    const elements = new Map([...scores].map(([name, score]) => [name, Float32Array.of(score)]));
    // In order: 0 1 2 2 4 4 6 9; the fifth is 4, and means 2 and 3 are below it.
    expect(belowThreshold(elements, 5 / 8)).toEqual(["p.A", "q.A", "q.B", "r.B"]);
    expect(belowThreshold(elements, 5 / 8, moduleOf)).toEqual(["q.A", "q.B", "r.A", "r.B"]);
  });

  it("takes modules from the names of A and B, and is recorded", async () => {
    const policy = afloraFreezing({ simultaneous: true, initialEpochs: 0, finalShare: 0.5 });
    expect(policy.settings).toMatchObject({ simultaneous: true, sensitivity: "gradient" });
    expect(afloraFreezing().settings).toMatchObject({ simultaneous: false });
    const state = policy.start({ layers: 1, totalSteps: 40, stepsPerEpoch: 10 });
    const byName = { "x.aflora_A.weight": 1, "y.aflora_A.weight": 3, "x.aflora_B.weight": 4, "y.aflora_B.weight": 3 };
    const sensitivities = new Map(Object.entries(byName));
    const progress = { ...context(1, []), step: 10, totalSteps: 40, stepsPerEpoch: 10 };
    // At half of the schedule floor(2 * 0.875) = 1 module is due: x by its mean 2.5, though an A of y is below its B.
    const frozen = await state.decide({ ...progress, sensitivity: () => Promise.resolve(sensitivities) });
    expect(frozen).toEqual(["x.aflora_A.weight", "x.aflora_B.weight"]);
  });
});

describe("AFLoRA's options", () => {
  it("keep no state in a pattern with the flag g, and record flags that decide", () => {
    const names = ["x.aflora_A.weight", "y.aflora_A.weight", "z.aflora_A.weight"];
    const policy = afloraFreezing({ tensors: /aflora_A/g });
    expect(names.map((name) => policy.statistics?.applies(name))).toEqual([true, true, true]);
    expect(names.map((name) => policy.mayFreeze?.({ name, layer: 0 }, 1))).toEqual([true, true, true]);
    expect(policy.settings).toMatchObject({ tensors: "aflora_A" });
    expect(afloraFreezing({ tensors: /aflora_a/gi }).settings).toMatchObject({ tensors: "/aflora_a/i" });
  });
});

describe("a policy's options", () => {
  it.each([
    ["safe", { settledBelow: -1 }, "settledBelow is -1", "a number from 0"],
    ["safe", { floor: "low" }, 'floor is "low"', "a number from 0"],
    ["safe", { center: 1 }, "center is 1", "true or false"],
    ["aflora", { mode: "code" }, 'mode is "code"', "one of paper, published_code"],
    ["aflora", { initialEpochs: -1 }, "initialEpochs is -1", "a number from 0"],
    ["aflora", { finalShare: 1.5 }, "finalShare is 1.5", "a share from 0 to 1"],
    ["aflora", { beta1: 2 }, "beta1 is 2", "a share from 0 to 1"],
    ["aflora", { beta2: null }, "beta2 is null", "a share from 0 to 1"],
    ["aflora", { every: 0 }, "every is 0", "a whole number from 1"],
    ["aflora", { simultaneous: "yes" }, 'simultaneous is "yes"', "true or false"],
    ["aflora", { sensitivity: "hessian" }, 'sensitivity is "hessian"', "one of gradient, weight_gradient,"],
    ["lora_prune", { ratio: 1 }, "ratio is 1", "a share from 0 and below 1"],
    ["lora_prune", { every: 2.5 }, "every is 2.5", "a whole number from 1"],
    ["lora_prune", { smoothing: 1 }, "smoothing is 1", "below 1"],
    ["lora_prune", { compactions: 1.5 }, "compactions is 1.5", "a whole number from 0"],
    [
      "lora_prune",
      { warmupShare: 0.6, finalShare: 0.4 },
      "warmupShare 0.6 and finalShare 0.4 leave no step",
      "below 1",
    ],
    ["sparse_adapter", { keep: 0 }, "keep is 0", "above 0, at most 1"],
    ["sparse_adapter", { by: "size" }, 'by is "size"', "one of magnitude, snip, random"],
    ["adapter_drop", { most: -1 }, "most is -1", "a whole number from 0"],
    ["resting", { layers: 0 }, "layers is 0", "a whole number from 1"],
    ["resting", { every: 1.5 }, "every is 1.5", "a whole number from 1"],
    ["freeze_to_fit", { bytes: 1, atStep: -1 }, "atStep is -1", "a whole number from 0"],
    ["fixed", { freezes: [{ beforeStep: 1, tensors: "a" }] }, "freezes: 0.tensors", ""],
  ])("of %s are refused by name, with what they may be: %o", async (policy, options, fact, remedy) => {
    const error = await failure(() => makePolicy({ policy, ...options }));
    expect(error.fact).toContain(fact);
    expect(error.remedy).toContain(remedy);
  });
});

describe("AFLoRA's schedule in its published code", () => {
  // t_i = 10, T - t_f = 30: 0 up to step 10, 1 - (1 - (t - 10) / 20)^3 up to step 30.
  it.each([
    [10, 0],
    [15, 0.578125],
    [30, 1],
    [31, 1],
  ])("has, at step %i, the fraction %f", (step, fraction) => {
    expect(publishedFraction(step, { start: 10, end: 30 })).toBeCloseTo(fraction, 12);
  });

  it("freezes tensors whose mean score is below a quantile of the scores of all elements", () => {
    const scores = new Map([
      ["wide", Float32Array.of(1, 1, 1, 9, 9, 9)],
      ["even", Float32Array.of(2, 3)],
      ["small", Float32Array.of(0.5, 1.5)],
    ]);
    // In order: 0.5 1 1 1 1.5 2 3 9 9 9; means 5, 2.5, 1.
    expect(belowThreshold(scores, 0.05)).toEqual([]);
    expect(belowThreshold(scores, 0.4), "threshold 1").toEqual([]);
    expect(belowThreshold(scores, 0.59), "threshold 1.5").toEqual(["small"]);
    expect(belowThreshold(scores, 0.7), "threshold 3").toEqual(["even", "small"]);
    expect(belowThreshold(scores, 1), "threshold 9").toEqual(["wide", "even", "small"]);
  });

  it("decides every tenth step after the first epoch and every step at the end, where step s is s - 1 in the published code", () => {
    const policy = afloraFreezing({ mode: "published_code", finalShare: 0.5 });
    const state = policy.start({ layers: 4, totalSteps: 60, stepsPerEpoch: 15 });
    const due = Array.from({ length: 61 }, (_, step) => step).filter((step) =>
      state.isDue({ step, totalSteps: 60, stepsPerEpoch: 15 }),
    );
    expect(due).toEqual([21, 31, ...Array.from({ length: 28 }, (_, i) => 32 + i), 60]);
    expect(policy.statistics).toMatchObject({ window: 10, kind: "gradient" });
  });

  it("smooths the average of each window of ten steps when the next window begins", () => {
    const tensor = (value: number) => ({ shape: [1], data: Float64Array.of(value) });
    let state = { mean: tensor(0), uncertainty: tensor(0), average: tensor(0) };
    for (let step = 0; step <= 20; step++) {
      const inputs = { p: tensor(-1), g: tensor(step), phase: tensor(step % 10), ...state };
      const next = sensitivityTests.reference(inputs, { kind: "gradient", beta1: 0.85, beta2: 0.95 });
      state = { ...state, ...next };
    }
    // The averages are 4.5 and 14.5. The smoothing takes an empty window at step 0, the first at step 10, the second at 20.
    const first = 0.15 * 4.5;
    const second = 0.85 * first + 0.15 * 14.5;
    expect(state.mean.data[0]).toBeCloseTo(second, 12);
    const spread = 0.95 * (0.05 * (4.5 - first)) + 0.05 * (14.5 - second);
    expect(state.uncertainty.data[0]).toBeCloseTo(spread, 12);
    expect(state.average.data[0]).toBe(20);
  });
});

describe("AdaLoRA's budget (eq. 12)", () => {
  const settings = { initial: 48, target: 16, warmup: 10, final: 20, every: 1, total: 100 };

  // 16 + 32 (1 - (t - 10) / 70)^3, cut to a whole number, by hand.
  it.each([
    [0, 48],
    [10, 48],
    [24, 32],
    [45, 20],
    [66, 16],
    [80, 16],
    [81, 16],
    [100, 16],
  ])("leaves, at step %i, %i triplets", (step, triplets) => {
    expect(tripletBudget(step, settings)).toBe(triplets);
  });
});

describe("AFLoRA's rank budget", () => {
  it("removes the components of d with the least sensitivity times uncertainty, and leaves every module one", async () => {
    // Sensitivity times uncertainty: 1, 2, 3 and 4, 5, 6.
    const statistics = new Map([
      ["x.aflora_d", { mean: Float32Array.of(1, 1, 6), uncertainty: Float32Array.of(1, 2, 0.5) }],
      ["y.aflora_d", { mean: Float32Array.of(2, 5, 3), uncertainty: Float32Array.of(2, 1, 2) }],
    ]);
    const values = new Map<string, Float32Array>();
    for (const name of statistics.keys()) values.set(name, Float32Array.of(0.1, 0.1, 0.1));
    const run = {
      read: (name: string) => Promise.resolve(values.get(name)!),
      write: (name: string, data: Float32Array) => void values.set(name, data),
      isLive: () => true,
      statistics: (name: string) => Promise.resolve(statistics.get(name)!),
    };
    const settings = { initial: 6, target: 2, warmup: 1, final: 1, every: 1, total: 4 };
    const budget = new AdaloraBudget(settings);
    const modules = [...statistics.keys()].map((e) => ({ e }));
    // The budget reads nothing else of a run. At step 2 it is 2 + 4 (1 / 2)^3 = 2: the four lowest but each module's best go.
    await budget.afterStep(2, run as unknown as AdapterRun, modules);
    expect([...values.values()].map((d) => [...d].map((value) => value !== 0))).toEqual([
      [false, false, true],
      [false, false, true],
    ]);
  });

  it("is refused above the rank, or without steps between its shares", () => {
    expect(() => aflora({ rank: 2, rankBudget: { targetRank: 3 } })).toThrow(/targetRank 3 of 2/);
    const rankBudget = { targetRank: 1, warmupShare: 0.5, finalShare: 0.5 };
    expect(() => aflora({ rank: 2, rankBudget })).toThrow(/warmupShare 0.5, finalShare 0.5/);
  });
});

describe("SparseAdapter's masks", () => {
  it("keep a share of the elements, those of the highest scores in all tensors together", () => {
    const scores = new Map([
      ["a", Float32Array.of(5, 1, 4)],
      ["b", Float32Array.of(2, 3)],
    ]);
    const masks = Object.fromEntries([...sparseMasks(scores, 0.4)].map(([name, mask]) => [name, [...mask]]));
    expect(masks).toEqual({ a: [1, 0, 1], b: [0, 0] });
    expect([...sparseMasks(scores, 1).values()].flatMap((mask) => [...mask])).toEqual([1, 1, 1, 1, 1]);
  });
});

describe("upper layers", () => {
  it("freezes all but the upper layers, once, before the first step", async () => {
    const state = upperLayers(2).start({ layers: 5, totalSteps: 9, stepsPerEpoch: 3 });
    expect(state.isDue({ step: 0, totalSteps: 9, stepsPerEpoch: 3 })).toBe(true);
    expect(state.isDue({ step: 3, totalSteps: 9, stepsPerEpoch: 3 })).toBe(false);
    expect(await state.decide(context(5, []))).toEqual(["layer.0.a", "layer.1.a", "layer.2.a"]);
  });

  it("refuses fewer than one", () => {
    expect(() => upperLayers(0)).toThrow(/0 upper layers/);
  });
});

describe("AdapterDrop", () => {
  it("drops the lowest n layers, where the seed alone decides n, from 0 to the maximum, at each step", () => {
    const dropCounts = (seed: number): number[] => {
      const policy = adapterDrop({ most: 3, seed });
      const state = policy.start({ layers: 6, totalSteps: 200, stepsPerEpoch: 20 });
      return Array.from({ length: 200 }, (_, step) => {
        const layers = state.dropped({ step, totalSteps: 200, stepsPerEpoch: 20 });
        expect([[], ...policy.variants(6)], "declared variants").toContainEqual(layers);
        return layers.length;
      });
    };
    expect(adapterDrop({ most: 3 }).variants(6)).toEqual([[0], [0, 1], [0, 1, 2]]);
    expect(new Set(dropCounts(1))).toEqual(new Set([0, 1, 2, 3]));
    expect(dropCounts(1)).toEqual(dropCounts(1));
    expect(dropCounts(1)).not.toEqual(dropCounts(2));
  });

  it("leaves at least one layer", () => {
    const state = adapterDrop().start({ layers: 2, totalSteps: 100, stepsPerEpoch: 10 });
    const drops = Array.from({ length: 100 }, (_, step) => state.dropped({ step, totalSteps: 100, stepsPerEpoch: 10 }));
    expect(adapterDrop().variants(2)).toEqual([[0]]);
    expect(Math.max(...drops.map((layers) => layers.length))).toBe(1);
  });
});

describe("resting", () => {
  const restsAt = (policy: LayerDropPolicy, layers: number): (readonly number[])[] => {
    const run = { totalSteps: 6, stepsPerEpoch: 3 };
    const state = policy.start({ layers, ...run });
    return Array.from({ length: 6 }, (_, step) => state.dropped({ step, ...run }));
  };

  it("lets all but the uppermost sixth of the layers rest in every second step", () => {
    expect([4, 6, 12, 13].map((layers) => resting().variants(layers)[0]?.length)).toEqual([3, 5, 10, 10]);
    expect(restsAt(resting(), 3)).toEqual([[], [0, 1], [], [0, 1], [], [0, 1]]);
    expect(resting().adaptersAct).toBe(true);
  });

  it("takes other numbers of layers and steps, and leaves at least one layer", () => {
    expect(restsAt(resting({ layers: 9, every: 3 }), 3)).toEqual([[], [0, 1], [0, 1], [], [0, 1], [0, 1]]);
    expect(restsAt(resting({ layers: 1 }), 3)[1]).toEqual([0]);
    expect(restsAt(resting({ every: 1 }), 4), "every step").toEqual(Array(6).fill([]));
  });

  it("lets nothing rest in a model of one layer", () => {
    expect(resting().variants(1)).toEqual([]);
    expect(restsAt(resting(), 1)).toEqual(Array(6).fill([]));
  });
});

describe("freezing to fit", () => {
  const startPolicy = (bytes: number): FreezePolicyState =>
    freezeToFit({ bytes }).start({ layers: 4, totalSteps: 100, stepsPerEpoch: 10 });

  it("freezes nothing if the run fits", async () => {
    expect(await startPolicy(1000).decide(context(4, [1, 2, 3, 4]))).toEqual([]);
  });

  it("freezes the least important layers with which the run fits", async () => {
    // Four layers need 404 bytes, layers 2 and 3 only 202: layers 0 and 1 must freeze, however important layer 0 is.
    expect(await startPolicy(210).decide(context(4, [9, 1, 0.1, 0.1]))).toEqual(["layer.0.a", "layer.1.a"]);
    // For 403 bytes, one frozen adapter is enough: the least important one.
    expect(await startPolicy(403).decide(context(4, [9, 1, 0.1, 3]))).toEqual(["layer.2.a"]);
  });

  it("throws with the least bytes that a run needs if nothing fits", async () => {
    await expect(startPolicy(50).decide(context(4, [1, 2, 3, 4]))).rejects.toThrow(/needs 101/);
  });
});

describe("a choice of everything that still learns", () => {
  const group = (layer: TensorPlace) => ({ shape: [1], dtype: "f32" as const, layer });
  const live = new Map([
    ["head", group(undefined)],
    ["table", group("below")],
    ["layer.0", group(0)],
    ["layer.2", group(2)],
  ]);
  const without = (...names: string[]) => new Map([...live].filter(([name]) => !names.includes(name)));

  it.each<[string, ReadonlyMap<string, TrainableSpec>, string[], TensorPlace]>([
    ["the head", live, ["table", "layer.0", "layer.2"], undefined],
    ["the highest layer", without("head"), ["table", "layer.0"], 2],
    ["a layer, but not what lies below", without("head", "layer.2"), ["table"], 0],
    ["what lies below", without("head", "layer.0", "layer.2"), [], "below"],
  ])("leaves %s", (_, tensors, frozen, place) => {
    expect(withoutLastGroup({ live: tensors }, [...tensors.keys()])).toEqual({ tensors: frozen, kept: { place } });
  });

  it("is anything but a choice that leaves something", () => {
    expect(withoutLastGroup({ live }, ["head", "layer.0"])).toEqual({ tensors: ["head", "layer.0"] });
    expect(withoutLastGroup({ live }, [])).toEqual({ tensors: [] });
  });
});

describe("choices of layers", () => {
  it("are a half, a list, or a random half that its seed decides", () => {
    expect(chosenLayers("early", 5)).toEqual([0, 1]);
    expect(chosenLayers("later", 5)).toEqual([2, 3, 4]);
    expect(chosenLayers([3, 1], 5)).toEqual([3, 1]);
    const random = chosenLayers({ randomHalf: 3 }, 12);
    expect(random).toHaveLength(6);
    expect(random).toEqual(chosenLayers({ randomHalf: 3 }, 12));
    expect(random).not.toEqual(chosenLayers({ randomHalf: 4 }, 12));
    expect(() => chosenLayers([5], 5)).toThrow(/Layer 5 cannot be adapted: this model has 5 layers/);
  });
});
