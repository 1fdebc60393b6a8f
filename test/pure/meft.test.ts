import { describe, expect, it } from "vitest";
import { createModel, lora, meft, plan } from "safetape";
import { ConfigError, FileFormatError } from "safetape/engine";
import type { MeftOptions, Prediction, PredictOptions } from "safetape";
import { adapterFromConfig } from "../../src/adapter/kinds";
import bertBase from "../../bench/configs/bert-base.json";
import { blocksFamily } from "../support/blocks-family";
import { tiny } from "../support/tiny";

/** Bytes of one hidden state of BERT-base with 32 rows of 128 tokens. */
const STATE = 32 * 128 * 768 * 4;

const predict = (options: MeftOptions = {}, more: Partial<PredictOptions> = {}): Prediction =>
  plan({ config: bertBase, adapter: meft(options), batch: 32, length: 128, ...more });

/** Number of hidden states that are kept. */
const states = ({ explanation }: Prediction): number => explanation.kept.filter(({ bytes }) => bytes === STATE).length;

describe("what MEFT keeps of BERT-base", () => {
  const recomputed = plan({
    config: bertBase,
    adapter: lora(),
    batch: 32,
    length: 128,
    memory: { recompute: "layers" },
  });

  it("is half of what plain recomputation of the layers keeps, with a state every four layers", () => {
    expect(states(recomputed)).toBe(12);
    for (const variant of [1, 2] as const) {
      const predicted = predict({ variant });
      expect(states(predicted), "two streams above layers 3, 7 and 11").toBe(6);
      expect(predicted.peakBytes).toBeLessThan(recomputed.peakBytes);
      expect(predicted.peakBytes).toBeLessThan(predict({ variant, stateEvery: 1 }).peakBytes);
    }
  });

  it("is as much, with a state every two layers", () => {
    expect(states(predict({ variant: 3 }))).toBe(12);
    expect(states(predict({ variant: 1, stateEvery: 2 }))).toBe(12);
  });

  it("is explained, with what is rebuilt and what plain recomputation would keep", () => {
    const { explanation } = predict();
    // Both streams into layers 1-3, 6, 7, 10 and 11. Into layer 0 the one that F reads; into 5 and 9, above kept states, the
    // one that G of the layer below reads.
    expect(explanation.rebuilt?.values).toBe(2 * 7 + 3);
    expect(explanation.rebuilt?.bytes).toBe(17 * STATE);
    // What F of each layer reads, and what G of the last one reads.
    const others = explanation.keptBytes - 6 * STATE;
    expect(explanation.rebuilt?.keptByRecomputation).toBe(13 * STATE + others);
    expect(explanation.toString()).toMatch(
      /rebuilt by reversible layers from what is kept, 17 values\n.*would be kept by plain/,
    );
    expect(recomputed.explanation.rebuilt).toBeUndefined();
  });

  it("is two states where the factors lose no digits", () => {
    expect(states(predict({ lambda: 1, beta: 1 }))).toBe(2);
    // 0.5^-14 is 16384: a rounding error of 2^-24 becomes 0.98e-3.
    expect(states(predict({ lambda: 0.5, beta: 1 }))).toBe(2);
  });

  it("shrinks as the lower layers freeze", () => {
    expect(states(predict({}, { freezeBelow: 4 })), "states above 7 and 11, and what F of layer 4 reads").toBe(5);
    expect(states(predict({}, { freezeBelow: 5 })), "states above 7 and 11").toBe(4);
    expect(states(predict({}, { freezeBelow: 9 })), "the state above 11").toBe(2);
  });

  it("is kept in f32 where other activations are packed", () => {
    expect(states(predict({}, { memory: { activations: "bf16" } }))).toBe(6);
  });

  it("is everything in layers that are not reversible", () => {
    const none = predict({ layers: [] });
    expect(none.explanation.rebuilt).toBeUndefined();
    expect(none.flops.recompute).toBe(0);
    const half = predict({ layers: "early" });
    expect(half.explanation.rebuilt!.values, "both streams into layers 1, 4 and 5, one into 0 and 3").toBe(2 * 3 + 2);
    expect(half.bytes.saved).toBeLessThan(none.bytes.saved);
    expect(half.bytes.saved).toBeGreaterThan(predict().bytes.saved);
  });
});

describe("MEFT's configuration", () => {
  const model = createModel(tiny.bert());

  it("is read as it was written", async () => {
    const config = meft({ variant: 2, size: 3, lambda: 0.5, stateEvery: 2, layers: "early", dropout: 0 }).peftConfig(
      model,
    );
    expect(config).toMatchObject({ peft_type: "SAFETAPE_MEFT", reversible_layers: [0], lambda: 0.5, beta: 0.1 });
    expect((await adapterFromConfig(config, "the test")).peftConfig(model)).toEqual(config);
  });

  it.each<[string, MeftOptions]>([
    // A program in JavaScript can give any number.
    ["variant", { variant: 4 as never }],
    ["bottleneck", { size: 0 }],
    ["lambda", { lambda: 0 }],
    ["beta", { beta: 2 }],
    ["state_every", { stateEvery: 1.5 }],
    ["adapter_dropout", { dropout: 1 }],
  ])("is refused with a wrong %s", (key, options) => {
    expect(() => meft(options)).toThrow(FileFormatError);
    expect(() => meft(options)).toThrow(key);
  });

  it("is refused with layers that the model does not have, and for layers without two parts", () => {
    expect(() => plan({ config: tiny.bert(), adapter: meft({ layers: [3] }), batch: 1 })).toThrow(ConfigError);
    const blocks = blocksFamily();
    expect(meft().tensors(blocks)).toHaveLength(8 * blocks.layers);
    expect(() => meft({ variant: 3 }).tensors(blocks)).toThrow(/not attention followed by a feed-forward/);
  });
});
