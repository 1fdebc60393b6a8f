import { describe, expect, it } from "vitest";
import { createModel, vera } from "../../src/index";
import { ConfigError } from "../../src/entry/engine";
import type { Adapter } from "../../src/index";
import { trainableSpecs } from "../../src/train/tensors/specs";
import { failure } from "../support/failure";
import { layerCount, tiny } from "../support/tiny";
import type { Family } from "../support/tiny";

/** An adapter as a JavaScript program may write it: one tensor, which says no layer. */
function withoutLayer(name: string): Adapter {
  const tensor = { name, shape: [4], initial: () => new Float32Array(4) };
  // Plain JavaScript does not check that the layer is given.
  const tensors = (() => [tensor]) as unknown as Adapter["tensors"];
  return { kind: "plain", tensors, peftConfig: () => ({ peft_type: "PLAIN" }) };
}

describe("a tensor that an adapter adds without a layer", () => {
  it.each<[Family, string, string]>([
    ["bert", "bert.encoder.layer.2.attention.self.query.scale", "is in layer 2"],
    ["bert", "bert.encoder.layer.1.attention.adapter_down.weight", "is in layer 1"],
    ["gpt2", "transformer.h.0.mlp.adapter_up.bias", "is in layer 0"],
    ["llama", "model.layers.1.gate", "is in layer 1"],
    ["vit", "vit.encoder.layer.2.output.dense.shift", "is in layer 2"],
    ["bert", "bert.embeddings.shift", "lies below the layers"],
  ])("is refused inside one, and below the first: %s, %s", async (family, name, place) => {
    const model = createModel(tiny[family]());
    const error = await failure(() => trainableSpecs(model, withoutLayer(name)), ConfigError);
    expect(error.fact).toBe(`The adapter plain adds ${name} without a layer, although its module ${place}.`);
  });

  it.each<[Family, string, number]>([
    ["bert", "prompt_embeddings", 3],
    ["bert", "bert.encoder.shared", 3],
    ["bert", "bert.encoder.shared", 1],
    ["bert", "classifier.scale", 3],
    ["llama", "lm_head.lora_A.weight", 3],
  ])("is welcome elsewhere: %s, %s, of %i layers", (family, name, layers) => {
    const specs = trainableSpecs(createModel(tiny[family](layerCount(layers))), withoutLayer(name));
    expect(specs.get(name)?.layer).toBeUndefined();
  });

  it("may be shared by all layers, as VeRA's matrices are", () => {
    const model = createModel(tiny.bert());
    const shared = vera({ rank: 2 })
      .tensors(model)
      .filter(({ layer }) => layer === undefined);
    expect(shared).toHaveLength(2);
    expect(trainableSpecs(model, vera({ rank: 2 })).size).toBeGreaterThan(0);
  });
});
