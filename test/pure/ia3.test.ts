import { describe, expect, it } from "vitest";
import { createModel, ia3 } from "../../src/index";
import { ConfigError } from "../../src/entry/engine";
import type { Adapter, Ia3Options, Model } from "../../src/index";
import { adapterFile, adapterOfFile } from "../../src/adapter/file";
import { adapterFromConfig } from "../../src/adapter/kinds";
import { elements } from "../../src/base/shape";
import { adapterFrom, PLAN } from "../../src/cli/flags";
import { readOptions } from "../../src/cli/options";
import { failure } from "../support/failure";
import { layerCount, tiny } from "../support/tiny";
import type { Family } from "../support/tiny";

/** Two layers with widths that tell inputs from outputs: 16, and 48 (GPT-2: 64) in the feed-forward. */
const modelOf = (family: Family): Model => createModel(tiny[family](layerCount(2)));

/** Scaled projections of layer 1 by their name in it: which side is scaled, by a vector of which length. */
function scaledIn(model: Model, adapter: Adapter): Record<string, string> {
  const inLayer = adapter.tensors(model).filter(({ layer }) => layer === 1);
  const sides = inLayer.map(({ name, shape }): [string, string] => {
    // PEFT's vectors are rows where they scale inputs, and columns where they scale outputs.
    const vector = new Map([[name, { shape, data: new Float32Array(shape[0]!) }]]);
    const [inFile] = adapterFile(adapter, model, vector, 4).tensors.values();
    const module = name.replace(/.*\.(?:layers?|h)\.1\.(.*)\.ia3_l/, "$1");
    return [module, `${inFile!.shape[0] === 1 ? "input" : "output"} ${shape[0]}`];
  });
  return Object.fromEntries(sides);
}

const CASES: readonly (readonly [Family, Ia3Options, Record<string, string>])[] = [
  ["bert", { targets: ["output.dense"] }, { "attention.output.dense": "input 16", "output.dense": "input 48" }],
  [
    "bert",
    { targets: ["query", "1.output.dense"] },
    { "attention.self.query": "output 16", "output.dense": "input 48" },
  ],
  [
    "bert",
    { targets: ["output.dense"], feedForward: [] },
    { "attention.output.dense": "output 16", "output.dense": "output 16" },
  ],
  ["bert", { targets: ["key", "value"] }, { "attention.self.key": "output 16", "attention.self.value": "output 16" }],
  [
    "roberta",
    {},
    {
      "attention.self.key": "output 16",
      "attention.self.value": "output 16",
      "attention.output.dense": "input 16",
      "output.dense": "input 48",
    },
  ],
  ["gpt2", { targets: ["c_proj"] }, { "attn.c_proj": "output 16", "mlp.c_proj": "input 64" }],
  [
    "llama",
    { targets: "all-linear", layers: [1] },
    {
      "self_attn.q_proj": "output 16",
      "self_attn.k_proj": "output 8",
      "self_attn.v_proj": "output 8",
      "self_attn.o_proj": "output 16",
      "mlp.gate_proj": "output 48",
      "mlp.up_proj": "output 48",
      "mlp.down_proj": "input 48",
    },
  ],
  ["llama", { targets: ["down_proj"], layers: "later" }, { "mlp.down_proj": "input 48" }],
  ["qwen3", {}, { "self_attn.q_proj": "output 24", "self_attn.v_proj": "output 12", "mlp.down_proj": "input 48" }],
  ["gemma2", {}, { "self_attn.q_proj": "output 24", "self_attn.v_proj": "output 12", "mlp.down_proj": "input 48" }],
  ["gpt_neox", {}, { "attention.query_key_value": "output 48", "mlp.dense_4h_to_h": "input 48" }],
  // PEFT has no defaults for OLMo 2 and ViT: these are by role.
  ["olmo2", {}, { "self_attn.k_proj": "output 8", "self_attn.v_proj": "output 8", "mlp.down_proj": "input 48" }],
  [
    "vit",
    {},
    { "attention.attention.key": "output 16", "attention.attention.value": "output 16", "output.dense": "input 48" },
  ],
  ["vit", { targets: ["output.dense"] }, { "attention.output.dense": "output 16", "output.dense": "input 48" }],
];

describe.each(CASES)("(IA)3 on %s with %j", (family, options, expected) => {
  const model = modelOf(family);
  const adapter = ia3(options);

  it("scales the inputs of the projection out of the feed-forward, and the outputs of others", () => {
    expect(scaledIn(model, adapter)).toEqual(expected);
  });

  it.each([4, 5] as const)(
    "writes a file that PEFT reads in the same way, for transformers %i",
    async (transformers) => {
      const saved = new Set(adapter.baseTensors?.(model) ?? []);
      const trained = [...adapter.tensors(model), ...model.parameters.filter(({ name }) => saved.has(name))];
      const tensors = new Map(
        trained.map(({ name, shape }, i) => [name, { shape, data: new Float32Array(elements(shape)).fill(i) }]),
      );
      const file = adapterFile(adapter, model, tensors, transformers);
      const { target_modules: targets, feedforward_modules: feedForward } = file.config;
      // PEFT's own rules: the second list is a part of the first, and the end of a module's name decides.
      const inputs = feedForward as string[]; // The adapter of this case writes a list.
      if (Array.isArray(targets)) expect(targets).toEqual(expect.arrayContaining(inputs));
      for (const [key, { shape }] of file.tensors) {
        if (!key.endsWith(".ia3_l")) continue;
        const module = key.replace("base_model.model.", "").replace(".ia3_l", "");
        expect(shape[0] === 1, key).toBe(inputs.some((end) => module.endsWith(end)));
      }
      const read = await adapterOfFile(file, model, "here");
      expect(scaledIn(model, read.adapter)).toEqual(expected);
      const values = (from: ReadonlyMap<string, { readonly data: Float32Array }>) =>
        Object.fromEntries([...from].map(([name, { data }]) => [name, [...data]]));
      expect(values(read.tensors)).toEqual(values(tensors));
    },
  );
});

describe("PEFT's files", () => {
  const read = (keys: object): Promise<Adapter> => adapterFromConfig({ peft_type: "IA3", ...keys }, "a file");

  it("without feedforward_modules have those of the family, as PEFT fills them in", async () => {
    const adapter = await read({ target_modules: ["key", "output.dense"] });
    expect(scaledIn(modelOf("bert"), adapter)).toMatchObject({ "output.dense": "input 48" });
  });

  it("with an empty list scale outputs alone", async () => {
    const adapter = await read({ target_modules: ["output.dense"], feedforward_modules: [] });
    expect(scaledIn(modelOf("bert"), adapter)).toMatchObject({ "output.dense": "output 16" });
  });

  it("may name them by an expression for the complete path", async () => {
    const adapter = await read({ target_modules: "all-linear", feedforward_modules: ".*mlp.(up|down)_proj" });
    expect(scaledIn(modelOf("llama"), adapter)).toMatchObject({
      "mlp.up_proj": "input 16",
      "mlp.down_proj": "input 48",
      "mlp.gate_proj": "output 48",
    });
  });
});

it.each([
  [{ targets: "output.dense" }, "input 48"],
  [{ targets: "output.dense", feedForward: "none" }, "output 16"],
  [{ targets: "/.*dense/", feedForward: "/.*layer.1.output.dense/" }, "input 48"],
])("the command line does the same: %j", (flags, expected) => {
  const adapter = adapterFrom(readOptions(PLAN, { config: "config.json", adapter: "ia3", ...flags }));
  expect(scaledIn(modelOf("bert"), adapter)["output.dense"]).toBe(expected);
});

it("refuses a feed-forward that is not a target", async () => {
  const error = await failure(() => ia3({ targets: ["key"], feedForward: ["output.dense"] }), ConfigError);
  expect(error.message).toMatch(/feedForward names output\.dense, which is not one of the targets/);
});
