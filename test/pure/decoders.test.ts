import { existsSync, readdirSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { createModel } from "../../src/index";
import { ConfigError } from "../../src/entry/engine";
import { trace } from "../../src/train/plans/trace";
import { readJson } from "../support/json";
import { modelContents } from "../support/model-contents";
import { DECODERS, tiny } from "../support/tiny";
import type { Config } from "../support/tiny";

const CASES = "test/golden-families";
const published = readdirSync(CASES).filter((name) => existsSync(`${CASES}/${name}/config_published.json`));

describe("a configuration as it was published before transformers 5", () => {
  it("is there for some cases", () => expect(published.length).toBeGreaterThan(5));

  it.each(published)("makes the same model: %s", (name) => {
    const models = ["config", "config_published"].map((file) =>
      createModel(readJson<Config>(`${CASES}/${name}/${file}.json`)),
    );
    expect(modelContents(models[1]!)).toEqual(modelContents(models[0]!));
  });
});

// PEFT 0.21, and where it has no default the same modules under the family's names.
it.each([
  ["qwen2", ["q_proj", "v_proj"]],
  ["qwen3", ["q_proj", "v_proj"]],
  ["mistral", ["q_proj", "v_proj"]],
  ["phi3", ["qkv_proj", "o_proj"]],
  ["gemma2", ["q_proj", "v_proj"]],
  ["gemma3_text", ["q_proj", "v_proj"]],
  ["olmo2", ["q_proj", "v_proj"]],
  ["smollm3", ["q_proj", "v_proj"]],
  ["gpt_neox", ["query_key_value"]],
] as const)("%s is adapted at %j by default", (family, targets) => {
  expect(createModel(tiny[family]()).defaultTargets).toEqual(targets);
});

describe("keys that would change the result are refused by name", () => {
  it.each([
    ["gpt2", { add_cross_attention: true }, /add_cross_attention/],
    ["gpt2", { pruned_heads: { 0: [1] } }, /pruned_heads/],
    ["llama", { partial_rotary_factor: 0.5 }, /partial_rotary_factor/],
    [
      "qwen3",
      { rope_parameters: { rope_type: "default", partial_rotary_factor: 0.5 } },
      /partial_rotary_factor is 0\.5/,
    ],
    [
      "gemma2",
      { rope_scaling: { rope_type: "linear", factor: 2, partial_rotary_factor: 0.5 } },
      /partial_rotary_factor is/,
    ],
    [
      "gemma3_text",
      { rope_parameters: { full_attention: { partial_rotary_factor: 0.5 } } },
      /partial_rotary_factor is/,
    ],
    ["gemma3_text", { partial_rotary_factor: 0.5 }, /partial_rotary_factor is/],
    ["gemma3_text", { attn_logit_softcapping: 30 }, /attn_logit_softcapping is 30/],
    ["llama", { hidden_act: "relu2" }, /relu2[\s\S]*silu/],
    ["smollm3", { no_rope_layers: [1, 0] }, /no_rope_layers has 2 entries for 3 layers/],
    ["smollm3", { no_rope_layers: [1, 0, 2] }, /no_rope_layers\.2/],
    ["gemma2", { use_bidirectional_attention: true }, /use_bidirectional_attention/],
    ["gemma3_text", { layer_types: ["full_attention"] }, /layer_types has 1 entries for 3 layers/],
    ["gemma3_text", { attn_logit_softcapping: -1 }, /attn_logit_softcapping/],
    ["qwen2", { layer_types: Array(3).fill("sliding_attention") }, /no sliding_window in use/],
    ["qwen3", { layer_types: Array(3).fill("chunked_attention") }, /layer_types\.0/],
    ["mistral", { sliding_window: 0 }, /sliding_window/],
    ["gpt_neox", { rotary_pct: 2 }, /rotary_pct/],
    ["gpt_neox", { rotary_pct: 0.4 }, /partial_rotary_factor 0\.4 makes 3 of 8 elements/],
    ["qwen2", { rope_scaling: { rope_type: "yarn", factor: -4 } }, /factor/],
  ] as const)("%s with %j", (family, overrides, message) => {
    const build = () => createModel(tiny[family](overrides));
    expect(build).toThrow(ConfigError);
    expect(build).toThrow(message);
  });
});

describe("GPT-2", () => {
  const factors = (overrides: Config): unknown[] => {
    const model = createModel(tiny.gpt2(overrides));
    const { tape } = trace({ model, batch: { size: 1, length: 4 }, isTraining: false });
    return tape.nodes.flatMap(({ attributes }) => ("kvHeads" in attributes ? [attributes["scale"]] : []));
  };

  it.each([
    [{}, [8 ** -0.5, 8 ** -0.5, 8 ** -0.5]],
    [{ scale_attn_weights: false }, [1, 1, 1]],
    [{ scale_attn_by_inverse_layer_idx: true }, [8 ** -0.5, 8 ** -0.5 / 2, 8 ** -0.5 / 3]],
  ])("with %j multiplies scores by %j", (overrides, expected) => {
    factors(overrides).forEach((factor, layer) => expect(factor).toBeCloseTo(expected[layer]!, 12));
    expect(factors(overrides)).toHaveLength(3);
  });

  it("has a last projection of its own where it is not tied to the embeddings", () => {
    const untied = createModel(tiny.gpt2({ tie_word_embeddings: false }));
    expect(untied.parameters.map(({ name }) => name)).toContain("lm_head.weight");
  });
});

it.each(DECODERS)("%s says the place of every parameter and projection", (family) => {
  const model = createModel(tiny[family]());
  for (const { name, layer } of [...model.parameters, ...model.projections]) {
    const [, number] = /\.layers\.(\d+)\./.exec(name) ?? [];
    const outside = /embed_(?:tokens|in)/.test(name) ? "below" : undefined;
    expect(layer, name).toBe(number === undefined ? outside : Number(number));
  }
});
