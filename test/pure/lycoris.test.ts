import { describe, expect, it } from "vitest";
import { createModel } from "safetape";
import { loha, lokr, oft } from "safetape/analysis";
import { ConfigError, FileFormatError } from "safetape/engine";
import { factorsOfSize } from "../../src/adapter/lokr";
import { nearestDivisor } from "../../src/adapter/oft";
import { droppedOutputs, LYCORIS_KEYS } from "../../src/adapter/lycoris";
import type { LycorisConfig } from "../../src/adapter/lycoris";
import { adapterFromConfig } from "../../src/adapter/kinds";
import { Forward } from "../../src/model/forward";
import { evaluate } from "../../src/testing/evaluate";
import { plan } from "../../src/tape/plan";
import { Recorder } from "../../src/tape/tape";
import { trace } from "../../src/train/plans/trace";
import * as v from "valibot";
import { failure } from "../support/failure";
import { layerCount, tiny } from "../support/tiny";

const model = createModel(tiny.bert());

/** Factors of a module's outputs in a step with a seed. */
function factors(options: Partial<LycorisConfig>, isScaled: boolean, seed: number, isTraining = true, outputs = 4000) {
  const recorder = new Recorder();
  const forward = new Forward({ recorder, model, batch: { size: 3, length: 4 }, isTraining });
  const config = { ...v.parse(v.object(LYCORIS_KEYS), {}), ...options };
  const value = droppedOutputs(forward, outputs, config, isScaled);
  if (!value) return undefined;
  const seeds = { batch_seed: { shape: [1, 2], data: Float64Array.of(7, seed) } };
  return [...evaluate(recorder, seeds, [value])[0]!.data];
}

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

describe("what LoHa and LoKr drop in a step", () => {
  it("is a share of the outputs, the others being scaled up or not", () => {
    const scaled = factors({ rank_dropout: 0.25 }, true, 1)!;
    expect(mean(scaled)).toBeCloseTo(1, 6);
    const kept = scaled.filter((value) => value !== 0);
    expect(kept.length / scaled.length).toBeCloseTo(0.75, 1);
    expect(new Set(kept).size).toBe(1);
    const plain = factors({ rank_dropout: 0.25 }, false, 1)!;
    expect([...new Set(plain.map((value) => Math.round(value * 1e9) / 1e9))].sort()).toEqual([0, 1]);
  });

  it("is the whole module in a share of the steps", () => {
    const steps = Array.from({ length: 300 }, (_, seed) => factors({ module_dropout: 0.3 }, true, seed, true, 5)!);
    expect(steps.every((step) => new Set(step).size === 1)).toBe(true);
    expect(mean(steps.map(([first]) => first!))).toBeCloseTo(0.7, 1);
  });

  it("is nothing by default and outside of training", () => {
    expect(factors({}, true, 1)).toBeUndefined();
    expect(factors({ rank_dropout: 0.5, module_dropout: 0.5 }, true, 1, false)).toBeUndefined();
  });
});

describe("LoHa", () => {
  it.each([
    [{ r: 0 }, FileFormatError, /r/],
    [{ rank_dropout: 2 }, FileFormatError, /rank_dropout/],
    [{ rank_pattern: { "quer.": 2, k_proj: 3 } }, ConfigError, /"k_proj" of ranks or alphas matches no/],
    [{ target_modules: ["word_embeddings"] }, ConfigError, /is no linear projection/],
  ])("refuses %o", async (options, type, message) => {
    const make = async () => (await adapterFromConfig({ peft_type: "LOHA", ...options }, "the file")).tensors(model);
    expect((await failure(make, type)).message).toMatch(message);
  });

  it("is the low-rank update of its two products", () => {
    const adapter = loha({ rank: 3, alpha: 6, targets: ["query"], layers: [0] });
    const tensors = new Map(
      adapter.tensors(model).map(({ name, shape }, i) => {
        const data = Float32Array.from({ length: 48 }, (_, k) => Math.sin(k + i));
        return [name, { shape, data }] as const;
      }),
    );
    const [update] = adapter.updates!(model, tensors).values();
    const { a, b, scale } = update!;
    const [a1, b1, a2, b2] = [...tensors.values()].map(({ data }) => data);
    for (const [o, i] of [
      [0, 0],
      [5, 11],
      [15, 3],
    ] as const) {
      let [first, second, sum] = [0, 0, 0];
      for (let k = 0; k < 3; k++) {
        first += a1![o * 3 + k]! * b1![k * 16 + i]!;
        second += a2![o * 3 + k]! * b2![k * 16 + i]!;
      }
      for (let k = 0; k < 9; k++) sum += b.data[o * 9 + k]! * a.data[k * 16 + i]!;
      expect(scale * sum).toBeCloseTo(2 * first * second, 5);
    }
  });
});

describe("LoKr", () => {
  it.each([
    [256, -1, [16, 16]],
    [128, -1, [8, 16]],
    [127, -1, [1, 127]],
    [128, 4, [4, 32]],
    [16, 8, [8, 2]],
    [24, 7, [4, 6]],
    [768, 10, [8, 96]],
  ])("has sides as PEFT's factorization(%i, %i)", (size, factor, sides) => {
    expect(factorsOfSize(size, factor)).toEqual(sides);
  });

  it.each([
    [{ r: 0 }, FileFormatError, /r/],
    [{ decompose_factor: 1.5 }, FileFormatError, /decompose_factor/],
    [{ alpha_pattern: { k_proj: 3 } }, ConfigError, /"k_proj" of ranks or alphas matches no/],
  ])("refuses %o", async (options, type, message) => {
    const make = async () => (await adapterFromConfig({ peft_type: "LOKR", ...options }, "the file")).tensors(model);
    expect((await failure(make, type)).message).toMatch(message);
  });

  it("makes nothing as large as a weight", () => {
    const width = 256;
    const wide = createModel(tiny.bert({ ...layerCount(1), hidden_size: width }));
    const texts = { size: 2, length: 3 };
    const { tape, loss } = trace({
      model: wide,
      adapter: lokr(),
      batch: texts,
      isTraining: true,
      differentiable: true,
    });
    const trainable = new Set(
      lokr()
        .tensors(wide)
        .map(({ name }) => name),
    );
    const { buffers } = plan(tape, { outputs: { loss }, loss, trainable });
    expect(Math.max(...buffers.map(({ bytes }) => bytes))).toBeLessThan(width * width);
  });
});

describe("OFT", () => {
  it.each([
    [768, 32, 32],
    [16, 32, 16],
    [24, 5, 4],
    [24, 7, 6],
    [37, 32, 37],
    [20, 7, 5],
  ])("has blocks as PEFT adjusts them: of %i columns, %i become %i", (width, number, divisor) => {
    expect(nearestDivisor(width, number)).toBe(divisor);
  });

  it.each([
    [{}, FileFormatError, /oft_block_size/],
    [{ oft_block_size: 4, r: 2 }, ConfigError, /r \(blocks\) 2 and oft_block_size \(blockSize\) 4/],
    [{ oft_block_size: 4, bias: "oft_only" }, ConfigError, /sets bias: oft_only for OFT, which is not implemented/],
    [{ oft_block_size: 4, num_cayley_neumann_terms: 1 }, ConfigError, /num_cayley_neumann_terms 1, with which PEFT/],
    [{ oft_block_size: 0, r: 16 }, ConfigError, /would have one column each/],
  ])("refuses %o", async (options, type, message) => {
    const make = async () => (await adapterFromConfig({ peft_type: "OFT", ...options }, "the file")).tensors(model);
    expect((await failure(make, type)).message).toMatch(message);
  });

  it("makes nothing as large as a weight, and keeps the rotation where a gradient passes on", () => {
    const width = 256;
    const adapter = oft();
    const wide = createModel(tiny.bert({ ...layerCount(2), hidden_size: width }));
    const texts = { size: 2, length: 3 };
    const { tape, loss } = trace({ model: wide, adapter, batch: texts, isTraining: true, differentiable: true });
    const trainable = new Set(adapter.tensors(wide).map(({ name }) => name));
    const { buffers, saved } = plan(tape, { outputs: { loss }, loss, trainable });
    expect(Math.max(...buffers.map(({ bytes }) => bytes))).toBeLessThan(width * width);
    const ops = saved
      .filter(({ producer }) => /query|value/.test(producer.label))
      .map(({ producer }) => producer.op.name);
    // Below the first layer nothing learns.
    expect(ops.filter((op) => op !== "linear")).toEqual(["cayley", "cayley"]);
  });
});
