import { describe, expect, it } from "vitest";
import { lora, plan } from "safetape";
import { createModel, modelOf, projection, registerFamily, withHead } from "safetape/models";
import type { Family, Model, ModelParts } from "safetape/models";
import { languageModel } from "../../src/model/heads";
import { blocksFamily } from "../support/blocks-family";
import { failure } from "../support/failure";

const CONFIG = { model_type: "blocks" };

/** The message of what a family of this model is refused with. */
async function refusal(family: () => unknown): Promise<string> {
  // A program without types may register anything.
  const forget = registerFamily("blocks", family as Family);
  try {
    return (await failure(() => createModel(CONFIG))).message;
  } finally {
    forget();
  }
}

describe("a model family of one's own", () => {
  it("is known until it is forgotten, and planned as any other", () => {
    expect(() => createModel(CONFIG)).toThrow(/model_type "blocks" is not supported/);
    const forget = registerFamily("blocks", blocksFamily, { architecture: "Blocks" });
    const { layers, trainableParameters } = plan({ config: CONFIG, adapter: lora({ rank: 2 }), batch: 2, length: 8 });
    expect(layers).toBe(4);
    expect(trainableParameters).toBe(4 * 2 * (2 * 32 + 2 * 32));
    expect(withHead(CONFIG, { labels: 3 })["architectures"]).toEqual(["BlocksForSequenceClassification"]);
    expect(withHead(CONFIG, { task: "generation" })["architectures"]).toEqual(["BlocksForCausalLM"]);
    expect(() => createModel({ model_type: "none" })).toThrow(/swinv2, blocks\.$/);
    forget();
    expect(() => createModel(CONFIG)).toThrow(/not supported/);
  });

  it("of encoder-decoders writes with the head of one", () => {
    const forget = registerFamily("blocks", blocksFamily, { isEncoderDecoder: true });
    expect(withHead(CONFIG, { task: "generation" })["architectures"]).toEqual(["blocksForConditionalGeneration"]);
    forget();
  });

  it.each(["bert", "llama"])("is refused under the name of %s, which exists", (type) => {
    expect(() => registerFamily(type, blocksFamily)).toThrow(
      `The model family ${type} exists already.\nGive it a name of its own.`,
    );
  });

  it("is refused twice under one name, and without a name", () => {
    const forget = registerFamily("blocks", blocksFamily);
    expect(() => registerFamily("blocks", blocksFamily)).toThrow(/model family blocks exists already/);
    expect(() => registerFamily("", blocksFamily)).toThrow(/A model family has no name/);
    forget();
  });

  const withParts = (change: Partial<Record<keyof Model, unknown>>) => () => ({ ...blocksFamily(), ...change });
  const [tokens, ...others] = blocksFamily().parameters;
  it.each<[string, () => unknown, RegExp]>([
    ["nothing", () => undefined, /^The model family blocks: family of its model is missing\.\n/],
    ["no layers", withParts({ layers: 0 }), /: layers of its model is 0\.\n/],
    ["a head that is no function", withParts({ head: "linear" }), /: head of its model is "linear"\.\n/],
    ["a size that is no number", withParts({ hiddenSize: NaN }), /: hiddenSize of its model is NaN\.\n/],
    [
      "two tensors of a name",
      withParts({ parameters: [tokens, tokens, ...others] }),
      /two tensors are called tokens\.\n/,
    ],
    [
      "a shape of what config.json lacks",
      withParts({ parameters: [{ ...tokens, shape: [NaN, 32] }, ...others] }),
      /tokens has the shape \[NaN, 32\]\.\n/,
    ],
    [
      "a layer that it does not have",
      withParts({ parameters: [{ ...tokens, layer: 4 }, ...others] }),
      /tokens is in layer 4 of 4\.\nLayers count from 0/,
    ],
    [
      "a projection without its tensors",
      withParts({ parameters: others.filter(({ name }) => name !== "blocks.1.wide.bias") }),
      /blocks\.1\.wide\.bias is not among its tensors\.\n/,
    ],
    [
      "a projection of other sizes",
      withParts({ parameters: [{ name: "blocks.0.query.weight", shape: [32, 16], layer: 0 }] }),
      /blocks\.0\.query\.weight is \[32, 16\], and its projection needs \[32, 32\]\.\n/,
    ],
  ])("is refused where it returns %s", async (_, family, message) => {
    expect(await refusal(family)).toMatch(message);
  });

  it("that throws by mistake is named, with the configuration as a possible reason", async () => {
    const message = await refusal(() => JSON.parse("Cannot read"));
    expect(message).toMatch(
      /^The model family blocks fails with this configuration: .*Cannot read.*\nCorrect config\.json/,
    );
  });
});

describe("modelOf", () => {
  const parts: ModelParts = {
    family: "small",
    config: {},
    layers: 1,
    hiddenSize: 4,
    vocabularySize: 8,
    head: languageModel(8, { hidden: 4, tiedTo: undefined }),
    projections: [
      projection("layers.0.self.value", 4, 4, { layer: 0, role: "value", bias: false }),
      projection("layers.0.wide", 4, 8, { layer: 0, role: "feed_forward_in" }),
    ],
    parameters: [{ name: "words", shape: [8, 4], layer: "below" }],
    embed: (forward) => forward.tokenEmbeddings(forward.parameter("words")),
    layer: (forward, _, x) => forward.linear("layers.0.self.value", x),
  };

  it("has the tensors of its projections and of its head", () => {
    expect(modelOf(parts).parameters.map(({ name, shape }) => `${name} ${shape.join("x")}`)).toEqual([
      "words 8x4",
      "layers.0.self.value.weight 4x4",
      "layers.0.wide.weight 8x4",
      "layers.0.wide.bias 8",
      "lm_head.weight 8x4",
    ]);
  });

  it("adapts queries and values where nothing else is said", () => {
    expect(modelOf(parts).defaultTargets).toEqual(["value"]);
    expect(modelOf({ ...parts, defaultTargets: ["wide"] }).defaultTargets).toEqual(["wide"]);
  });

  it("has the members that are given in place of defaults", () => {
    const { maxLength, padId, task, classes } = modelOf({ ...parts, maxLength: 16 });
    expect({ maxLength, padId, task, classes }).toEqual({ maxLength: 16, padId: 0, task: "causal_lm", classes: 8 });
  });
});
