import { describe, expect, it } from "vitest";
import { bitfit, lora, safe } from "safetape";
import { ConfigError } from "safetape/engine";
import type { Adapter, FreezePolicy } from "safetape";
import { Random } from "../../src/base/random";
import { elements } from "../../src/base/shape";
import { makeBatch } from "../../src/data/batch";
import type { FreezeContext } from "../../src/freeze/policy";
import { cubicThreshold, quantile, safeIntervals, SafeSchedule, safeSettings } from "../../src/freeze/safe-schedule";
import type { SafeOptions } from "../../src/freeze/safe-schedule";
import { createModel } from "../../src/model/families";
import { finishCka, minibatchCka } from "../../src/ops/cka";
import { ckaTests } from "../../src/ops/cka.cases";
import type { ReferenceTensor } from "../../src/op/declaration";
import type { Inputs } from "../../src/run/executor";
import { evaluate } from "../../src/testing/evaluate";
import { comparisonOutput, comparisonTrace } from "../../src/train/plans/comparison-trace";
import { batchInputs } from "../../src/train/plans/inputs";
import { tiny, tinySamples } from "../support/tiny";

describe("SAFE's threshold (eq. 4)", () => {
  it.each([
    [4, 0],
    [5, 0],
    [6, 0.0542],
    [8, 0.1314],
    [10, 0.175],
    [12, 0.1946],
    [14, 0.1998],
    [15, 0.2],
    [30, 0.2],
  ])("at interval %i is %f", (t, expected) => {
    expect(cubicThreshold(t, 5, 15, 0.2)).toBeCloseTo(expected, 4);
  });

  it("takes quantiles as NumPy does", () => {
    expect(quantile([4, 1, 3, 2], 0.5)).toBe(2.5);
    expect(quantile([4, 1, 3, 2], 0)).toBe(1);
    expect(quantile([4, 1, 3, 2], 0.9)).toBeCloseTo(3.7);
  });
});

describe("linear CKA (eq. 2)", () => {
  const matrix = (values: number[]): ReferenceTensor => ({ shape: [4, 3], data: Float64Array.from(values) });
  const x = matrix([1, 2, 0, 0, 1, 3, 2, 0, 1, 1, 1, 1]);
  const y = matrix([1, 0, 2, 1, 1, 0, 0, 3, 1, 2, 1, 1]);
  const mask: ReferenceTensor = { shape: [4], data: Float64Array.of(1, 1, 1, 1) };
  const score = (a: ReferenceTensor, b: ReferenceTensor, center: boolean): number =>
    finishCka(ckaTests.reference({ x: a, y: b, mask }, { center })["sums"]!.data);

  it("gives the values of a worked example", () => {
    expect(score(x, y, true)).toBeCloseTo(0.639282808627581, 12);
    expect(score(x, y, false)).toBeCloseTo(0.8025125990367244, 12);
    expect(score(x, x, true)).toBeCloseTo(1, 12);
  });

  it("is averaged over batches as minibatch CKA: norms by the square of their rows, each batch centred by itself", () => {
    const column = (...values: number[]): ReferenceTensor => {
      return { shape: [values.length, 1], data: Float64Array.from(values) };
    };
    const sumsOf = (a: ReferenceTensor, b: ReferenceTensor) => {
      const rows = a.shape[0]!;
      const ones = { shape: [rows], data: new Float64Array(rows).fill(1) };
      return { rows, sums: ckaTests.reference({ x: a, y: b, mask: ones }, { center: true })["sums"]!.data };
    };
    // Centred (-1, 1) and (-2, 2): y'x = 4, x'x = 2, y'y = 8. Centred (-2, 0, 2) and (0, -1, 1): y'x = 2, x'x = 8, y'y = 2.
    const batches = [sumsOf(column(1, 3), column(2, 6)), sumsOf(column(0, 2, 4), column(1, 0, 2))];
    const [cross, xx, yy] = [16 / 4 + 4 / 9, 4 / 4 + 64 / 9, 64 / 4 + 4 / 9];
    expect(minibatchCka(batches)).toBeCloseTo(cross / Math.sqrt(xx * yy), 12);
    expect(minibatchCka([batches[1]!])).toBe(finishCka(batches[1]!.sums));
  });
});

describe("the reference of importance", () => {
  const model = createModel(tiny.bert());
  const batch = makeBatch(tinySamples(3, { longest: 9 }), { size: 3, length: 9, padId: 0, labels: "class" });

  /** Importance of each layer in float64, with random weights and B (or biases) that are 0 but for some layers. */
  function importance(adapter: Adapter, reference: "original" | "own", changed: RegExp): number[] {
    const { recorder, outputs } = comparisonTrace({ model, fragileNorms: new Set() }, adapter, batch, { reference });
    const random = new Random(4);
    const normals = new Map<string, Float64Array>();
    const normal = (name: string, shape: readonly number[]): Float64Array => {
      const values = normals.get(name) ?? Float64Array.from({ length: elements(shape) }, () => random.normal() / 4);
      normals.set(name, values);
      return values;
    };
    const valuesOf = (name: string, shape: readonly number[]): Float64Array => {
      if (name.startsWith("loaded ") || !/lora_B|\.bias$/.test(name)) return normal(name.replace("loaded ", ""), shape);
      const loaded = name.endsWith(".bias") ? normal(name, shape) : new Float64Array(elements(shape));
      return changed.test(name) ? loaded.map((value, i) => value + Math.sin(i + 1)) : loaded;
    };
    const inputs: Inputs = { ...batchInputs(model, batch), probe_mask: batch.attentionMask };
    const externals: Record<string, ReferenceTensor> = {};
    // A fixed order of names, so that the weights are the same for both references.
    for (const { name, shape } of model.parameters) normal(name, shape);
    for (const { origin, shape } of recorder.values) {
      if (origin.kind === "parameter") externals[origin.name] = { shape, data: valuesOf(origin.name, shape) };
      if (origin.kind !== "input") continue;
      externals[origin.name] = { shape, data: Float64Array.from(inputs[origin.name]!) };
    }
    const sums = Array.from({ length: model.layers }, (_, layer) => outputs[comparisonOutput(layer)]!);
    return evaluate(recorder, externals, sums).map(({ data }) => 1 - finishCka(data));
  }

  it('"own" sees the changed adapter alone, "original" sees it in all layers above as well', () => {
    const changed = /layer\.1\..*lora_B/;
    const own = importance(lora({ rank: 2 }), "own", changed);
    expect(own[0]).toBeCloseTo(0, 12);
    expect(own[1]).toBeGreaterThan(1e-4);
    expect(own[2]).toBeCloseTo(0, 12);
    const original = importance(lora({ rank: 2 }), "original", changed);
    expect(original[0]).toBeCloseTo(0, 12);
    expect(original[1]).toBeGreaterThan(1e-4);
    expect(original[2]).toBeGreaterThan(1e-4);
  });

  it.each<[string, Adapter, RegExp]>([
    ["LoRA in all layers", lora({ rank: 2 }), /lora_B/],
    ["BitFit, whose lowest layer includes the embeddings", bitfit(), /\.bias$/],
  ])("both are the same for the lowest layer: %s", (_, adapter, changed) => {
    const [own, original] = [importance(adapter, "own", changed), importance(adapter, "original", changed)];
    expect(own[0]).toBeGreaterThan(1e-4);
    expect(own[0]).toBeCloseTo(original[0]!, 12);
    expect(own[2]).not.toBeCloseTo(original[2]!, 4);
  });
});

describe("SAFE's schedule", () => {
  const scores = (...values: number[]): Map<number, number> => new Map(values.map((value, layer) => [layer, value]));
  const scheduleOf = (options: SafeOptions, intervals: SafeSchedule["intervals"]): SafeSchedule =>
    new SafeSchedule(safeSettings(options), intervals);

  it("waits until every score has changed by less than 5 % twice in a row", () => {
    const schedule = scheduleOf({ tauT: 0.3 }, { count: 12, maxWarmup: 50, rampEnd: 8 });
    expect(schedule.next(scores(0.1, 0.2))).toEqual([]);
    expect(schedule.next(scores(0.2, 0.21))).toEqual([]); // layer 0 doubled
    expect(schedule.next(scores(0.205, 0.212))).toEqual([]); // changes of 2.5 % and 1 %: once
    expect(schedule.next(scores(0.206, 0.213))).toEqual([]); // twice: warm-up ends at 4, the threshold starts from 0
    expect(schedule.threshold).toBe(0);
    // tau_5 = 0.3 (1 - (3/4)^3) = 0.1734, tau_6 = 0.3 (1 - (1/2)^3) = 0.2625
    expect(schedule.next(scores(0.206, 0.27))).toEqual([]);
    expect(schedule.threshold).toBeCloseTo(0.1734, 4);
    expect(schedule.next(scores(0.206, 0.27))).toEqual([0]);
    expect(schedule.threshold).toBeCloseTo(0.2625, 4);
    expect(schedule.record()).toMatchObject({ warmupEnd: 4, rampEnd: 8, tauT: 0.3, intervals: 12 });
  });

  it("reaches the quantile that freezes the target fraction, of the warm-up's scores if configured", () => {
    const schedule = scheduleOf({ scores: "warmup" }, { count: 4, maxWarmup: 1, rampEnd: 2 });
    expect(schedule.next(scores(0.4, 0.1, 0.3, 0.2))).toEqual([]);
    expect(schedule.next(scores(0.9, 0.9, 0.1, 0.1))).toEqual([1, 3]);
  });

  it("does not take adapters for settled that still are as new", () => {
    const schedule = scheduleOf({ floor: 1e-4 }, { count: 12, maxWarmup: 4, rampEnd: 8 });
    for (let interval = 1; interval < 4; interval++) schedule.next(scores(1e-6, 1e-6));
    expect(schedule.record()).toMatchObject({ warmupEnd: undefined });
    schedule.next(scores(1e-6, 1e-6));
    expect(schedule.record(), "the cap").toMatchObject({ warmupEnd: 4 });
  });

  it.each(["end", "rampEnd"] as const)("freezes until %s", (until) => {
    const schedule = scheduleOf({ tauT: 0.3, until }, { count: 8, maxWarmup: 1, rampEnd: 3 });
    for (const score of [0.1, 0.9, 0.9]) schedule.next(scores(score));
    // Interval 3 has judged by tau_T already.
    expect(schedule.isOver).toBe(until === "rampEnd");
  });

  it("says afterwards what froze less than asked", () => {
    const intervals = { count: 4, maxWarmup: 1, rampEnd: 2 };
    const finished = (options: SafeOptions, last: number): SafeSchedule => {
      const schedule = scheduleOf(options, intervals);
      schedule.next(scores(0.1, 0.2, 0.3, 0.4));
      schedule.next(scores(last, last, last, last));
      return schedule;
    };
    // The median of four scores lies above two.
    expect(finished({}, 0.9).remark(4)).toMatch(/froze none of the 2 layers .* scores rose above the threshold/);
    expect(finished({}, 0.9).remark(3)).toMatch(/froze 1 of the 2 layers/);
    expect(finished({}, 0.1).remark(2)).toBeUndefined();
    expect(finished({ tauT: 0.05 }, 0.9).remark(4)).toMatch(/froze nothing: no score fell below tauT 0.05/);
    expect(finished({ tauT: 0.5 }, 0.4).remark(3)).toBeUndefined();
    const late = scheduleOf({}, { ...intervals, maxWarmup: 9 });
    late.next(scores(0.1, 0.2));
    expect(late.remark(2)).toMatch(/warm-up took all 1 intervals/);
    expect(scheduleOf({}, intervals).remark(2)).toMatch(/no layer was scored/);
  });

  it("refuses options out of range", () => {
    const unknown = { measure: "loss", reference: "none", scores: "all", until: "t_f" };
    for (const [option, word] of Object.entries(unknown)) {
      // JSON can contain any string.
      const options = { [option]: word } as SafeOptions;
      expect(() => safeSettings(options)).toThrow(new RegExp(`${option} is "${word}"`));
    }
    expect(() => safeSettings({ measure: "gradient", reference: "own" })).toThrow(ConfigError);
    expect(safeSettings({ measure: "gradient", tauT: 2 }), "sensitivities may be above 1").toMatchObject({ tauT: 2 });
    expect(() => safeSettings({ tauT: 2 })).toThrow(/tauT is 2.*\n.*from 0 to 1/);
    expect(() => safeSettings({ targetFreezeFraction: -1 })).toThrow(/targetFreezeFraction is -1/);
    expect(() => safeSettings({ every: 0 })).toThrow(/every is 0/);
  });
});

describe("SAFE's intervals", () => {
  const intervals = (options: SafeOptions, totalSteps: number, stepsPerEpoch: number) => {
    const { completeAfter, ...numbers } = safeIntervals(safeSettings(options), {
      layers: 4,
      totalSteps,
      stepsPerEpoch,
    });
    const steps = Array.from({ length: totalSteps }, (_, i) => i + 1);
    return { ...numbers, due: steps.filter((step) => completeAfter(step) > completeAfter(step - 1)) };
  };

  it("are epochs in a run of ten or more, with a third of them for warm-up", () => {
    expect(intervals({}, 70, 7)).toEqual({
      count: 10,
      maxWarmup: 3,
      rampEnd: undefined,
      due: [7, 14, 21, 28, 35, 42, 49, 56, 63, 70],
    });
  });

  it("are twentieths of a shorter run, with a fifth of them for warm-up and t_f in the middle", () => {
    // Three epochs of 17 steps: 51 k / 20, rounded up.
    const due = [3, 6, 8, 11, 13, 16, 18, 21, 23, 26, 29, 31, 34, 36, 39, 41, 44, 46, 49, 51];
    expect(intervals({}, 51, 17)).toEqual({ count: 20, maxWarmup: 4, rampEnd: 10, due });
    expect(intervals({ maxWarmup: 6, rampEnd: 15 }, 51, 17)).toMatchObject({ maxWarmup: 6, rampEnd: 15 });
    expect(intervals({}, 8, 4), "steps, where there are fewer").toMatchObject({ count: 8, maxWarmup: 3, rampEnd: 4 });
  });

  it("are as many steps as asked for, and leave the 5 % rule its three intervals where they can", () => {
    expect(intervals({ every: 5 }, 32, 32)).toMatchObject({ count: 6, maxWarmup: 3, due: [5, 10, 15, 20, 25, 30] });
    expect(intervals({ every: 8 }, 32, 32), "half of the run").toMatchObject({ count: 4, maxWarmup: 1 });
  });
});

describe("SAFE by sensitivities", () => {
  const decide = (policy: FreezePolicy) => {
    const state = policy.start({ layers: 2, totalSteps: 4, stepsPerEpoch: 1 });
    const live = new Map([
      [0, ["a", "b"]],
      [1, ["c"]],
    ]);
    const byTensor = new Map([
      ["a", 1e-9],
      ["b", 3e-9],
      ["c", 5e-9],
      ["head", 7e-9],
    ]);
    const unused = () => Promise.reject(new Error("not asked for"));
    // A policy that scores by sensitivities reads nothing else of its context.
    const context = {
      live,
      sensitivity: () => Promise.resolve(byTensor),
      importance: unused,
    } as unknown as FreezeContext;
    return { state, decide: () => state.decide(context) };
  };

  it("scores a layer by the mean over its tensors, and asks for no importance", async () => {
    const policy = safe({ measure: "gradient", every: 1, tauT: 4e-9, maxWarmup: 1, rampEnd: 2 });
    expect(policy).toMatchObject({ usesImportance: false, statistics: { kind: "gradient" } });
    const run = decide(policy);
    expect(await run.decide()).toEqual([]);
    expect(run.state.record?.()).toMatchObject({ history: [{ scores: { 0: 2e-9, 1: 5e-9 } }] });
    expect(await run.decide()).toEqual(["a", "b"]);
  });
});
