import { describe, expect, it } from "vitest";
import { createModel, houlsby, pfeiffer } from "../../src/index";
import { ConfigError, FileFormatError } from "../../src/entry/engine";
import { makeBatch } from "../../src/entry/data";
import type { Adapter, BlockSite } from "../../src/index";
import { adapterFromConfig } from "../../src/adapter/kinds";
import type { ReferenceTensor } from "../../src/op/declaration";
import { trainableSpecs } from "../../src/train/tensors/specs";
import { trace } from "../../src/train/plans/trace";
import { failure } from "../support/failure";
import { readJson } from "../support/json";
import { evaluateTrace, randomTensors } from "../support/reference-trace";
import { layerCount, tiny, tinySamples } from "../support/tiny";
import type { Config } from "../support/tiny";
import { trainableNumbers } from "../support/trainable-numbers";

const bertBase = createModel(readJson<Config>("bench/configs/bert-base.json"));

const trained = (adapter: Adapter): number => trainableNumbers(bertBase, adapter);

describe("the trainable numbers on BERT-base", () => {
  it("have a weight and a bias of 768 for each norm that learns: two a layer, and that of the embeddings", () => {
    expect(trained(houlsby({ trainsNorms: true }))).toBe(1_789_056 + 25 * 2 * 768);
    const adapterOfLayer = 2 * (2 * 48 * 768 + 48 + 768);
    expect(trained(houlsby({ trainsNorms: true, layers: [3, 5] })), "in two layers").toBe(
      2 * (adapterOfLayer + 2 * 2 * 768),
    );
  });
});

it("gives norms that learn the layer that they freeze with", () => {
  const model = createModel(tiny.gpt2());
  const norms = [...trainableSpecs(model, houlsby({ trainsNorms: true }))].filter(([name]) => /\.ln_/.test(name));
  const layers = Object.fromEntries(norms.map(([name, { layer }]) => [name, layer]));
  const parts = (module: string, layer: number | undefined) => [
    [`transformer.${module}.weight`, layer],
    [`transformer.${module}.bias`, layer],
  ];
  const inLayers = [0, 1, 2].flatMap((layer) => [
    ...parts(`h.${layer}.ln_1`, layer),
    ...parts(`h.${layer}.ln_2`, layer),
  ]);
  expect(layers).toEqual(Object.fromEntries([...inLayers, ...parts("ln_f", undefined)]));
});

/** x [rows, in] W^T + bias, with W [out, in]. */
function product(x: Float64Array, w: ReferenceTensor, bias: ReferenceTensor): Float64Array {
  const [outSize = 0, inSize = 0] = w.shape;
  const rows = x.length / inSize;
  return Float64Array.from({ length: rows * outSize }, (_, i) => {
    const [row, out] = [Math.floor(i / outSize), i % outSize];
    let sum = bias.data[out]!;
    for (let k = 0; k < inSize; k++) sum += x[row * inSize + k]! * w.data[out * inSize + k]!;
    return sum;
  });
}

/** Layer norm of rows as long as the weight. */
function normed(x: Float64Array, weight: ReferenceTensor, bias: ReferenceTensor, eps: number): Float64Array {
  const width = weight.data.length;
  return x.map((value, i) => {
    const row = x.subarray(i - (i % width), i - (i % width) + width);
    const mean = row.reduce((sum, element) => sum + element, 0) / width;
    const variance = row.reduce((sum, element) => sum + (element - mean) ** 2, 0) / width;
    return ((value - mean) / Math.sqrt(variance + eps)) * weight.data[i % width]! + bias.data[i % width]!;
  });
}

const sum = (a: Float64Array, b: Float64Array): Float64Array => a.map((value, i) => value + b[i]!);

describe("Pfeiffer's adapter after a layer's feed-forward", () => {
  const FAMILIES = [
    ["bert", "bert.encoder.layer.0.output", "bert.encoder.layer.0.output.LayerNorm"],
    ["gpt2", "transformer.h.0.mlp", undefined],
  ] as const;
  it.each(FAMILIES.flatMap((family) => [[...family, "adapterhub"] as const, [...family, "output"] as const]))(
    "computes what its formula says: %s, module %s, norm %s, placement %s",
    (family, module, norm, placement) => {
      const model = createModel(tiny[family]({ ...layerCount(1), layer_norm_eps: 1e-5, num_labels: 2 }));
      const isLanguageModel = model.task === "causal_lm";
      const samples = tinySamples(2, { longest: 6, areTokens: isLanguageModel });
      const labels = isLanguageModel ? ("token" as const) : ("class" as const);
      const batch = makeBatch(samples, { size: 2, length: 6, padId: 0, labels });
      const adapter = pfeiffer({ size: 3, placement });
      const tensors = randomTensors(model, adapter);
      const tensor = (name: string): ReferenceTensor => tensors.get(name)!;

      // The feed-forward's output h and its residual r, in the model without the adapter.
      const sites: BlockSite[] = [];
      const watching: Adapter = {
        ...adapter,
        tensors: () => [],
        block(_, site) {
          sites.push(site);
          return undefined;
        },
      };
      const plain = trace({ model, adapter: watching, batch, isTraining: false });
      const site = sites.find(({ name }) => name === module)!;
      const [h, r] = evaluateTrace(plain, model, batch, tensors, [site.x, site.residual]);

      const stream = sum(h!, r!);
      const normOf = (x: Float64Array): Float64Array =>
        norm === undefined ? x : normed(x, tensor(`${norm}.weight`), tensor(`${norm}.bias`), 1e-5);
      const z = placement === "output" ? h! : normOf(stream);
      const down = product(z, tensor(`${module}.adapter_down.weight`), tensor(`${module}.adapter_down.bias`));
      const relu = down.map((value) => Math.max(0, value));
      const up = product(relu, tensor(`${module}.adapter_up.weight`), tensor(`${module}.adapter_up.bias`));
      const expected = normOf(sum(up, stream));

      const adapted = trace({ model, adapter, batch, isTraining: false });
      const [actual] = evaluateTrace(adapted, model, batch, tensors, [adapted.layers[0]!]);
      const worst = Math.max(...actual!.map((value, i) => Math.abs(value - expected[i]!)));
      expect(worst, "largest difference").toBeLessThan(1e-12);
      expect(
        Math.max(
          ...sum(
            expected,
            normOf(stream).map((value) => -value),
          ).map(Math.abs),
        ),
      ).toBeGreaterThan(0.1);
    },
  );

  it("is written under AdapterHub's key, and in files without it acts on the output", async () => {
    const keyOf = (adapter: Adapter): unknown => adapter.peftConfig(bertBase)["original_ln_before"];
    const written = pfeiffer().peftConfig(bertBase);
    expect(keyOf(await adapterFromConfig(written, "a file"))).toBe(true);
    const { original_ln_before: _, ...older } = written;
    expect(keyOf(await adapterFromConfig({ ...older, peft_type: written.peft_type }, "an older file"))).toBe(false);
    expect([keyOf(pfeiffer({ placement: "output" })), keyOf(houlsby())]).toEqual([false, false]);
  });
});

it.each([
  // Options of studies and of plain JavaScript may have any value.
  ["placement: before", () => pfeiffer({ placement: "before" as "output" }), ConfigError, /placement .* is "before"/],
  // The same.
  ["trainsNorms: 1", () => houlsby({ trainsNorms: 1 as unknown as boolean }), FileFormatError, /trains_norms/],
])("refuses %s", async (_, make, kind, message) => {
  expect((await failure(make, kind)).message).toMatch(message);
});
