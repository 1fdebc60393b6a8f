import { describe, expect, it } from "vitest";
import { lora } from "safetape";
import { outputMaskName, withOutputMasks } from "../../src/adapter/masked";
import { Random } from "../../src/base/random";
import { elements } from "../../src/base/shape";
import { createModel } from "../../src/model/families";
import type { Model } from "../../src/model/model";
import { structureKey, withGroups } from "../../src/model/resize";
import type { Structure } from "../../src/model/structure";
import type { ReferenceTensor } from "../../src/op/declaration";
import { evaluate } from "../../src/testing/evaluate";
import { batchInputs } from "../../src/train/plans/inputs";
import { trace } from "../../src/train/plans/trace";
import { gather, scatter, structureSlices } from "../../src/train/tensors/slices";
import type { Slice } from "../../src/train/tensors/slices";
import { DECODERS, FAMILIES, layerCount, tiny, tinyData } from "../support/tiny";
import type { Family } from "../support/tiny";

/** Four heads of four numbers; in LLaMA two groups of two. */
const HEADS = { num_attention_heads: 4, n_head: 4, num_key_value_heads: 2, n_inner: 6, intermediate_size: 6 };
const ADAPTER = lora({ rank: 2, targets: "all-linear" });
/** Beside all decoders. DeBERTa's scores read a table of each layer, as wide as the heads that it has. */
const PRUNED: readonly Family[] = [...FAMILIES, "deberta-v2"];

type Tensors = ReadonlyMap<string, { readonly shape: readonly number[]; readonly data: Float32Array }>;

/** The heads and neurons of layer 1, with the groups that stay. */
function kept(model: Model): (readonly [structure: Structure, groups: number[]])[] {
  return model.structures(1).map((structure) => [structure, structure.kind === "heads" ? [0] : [0, 2, 3]] as const);
}

/** Random values of all parameters of a model and its LoRA; the masks of layer 1 are 0 where groups do not stay. */
function randomTensors(model: Model): Tensors {
  const random = new Random(5);
  const masked = withOutputMasks(ADAPTER, []);
  const specs = [...model.parameters, ...masked.tensors(model)];
  const tensors = new Map(
    specs.map(({ name, shape }) => {
      const data = Float32Array.from({ length: elements(shape) }, () => 0.3 * random.normal());
      return [name, { shape, data }] as const;
    }),
  );
  for (const [structure, groups] of kept(model)) {
    for (const { projection, offset, size } of structure.outputs) {
      const name = outputMaskName(projection);
      const { out } = model.projections.find((one) => one.name === projection)!;
      const mask = tensors.get(name)?.data ?? new Float32Array(out).fill(1);
      for (let group = 0; group < structure.groups; group++) {
        if (!groups.includes(group)) mask.fill(0, offset + group * size, offset + (group + 1) * size);
      }
      tensors.set(name, { shape: [out], data: mask });
    }
  }
  return tensors;
}

/** Logits of a batch in float64. */
function logits(model: Model, tensors: Tensors): number[] {
  const masks = [...tensors.keys()].filter((name) => name.endsWith(".output_mask"));
  const adapter = withOutputMasks(
    ADAPTER,
    masks.map((name) => name.replace(/\.output_mask$/, "")),
  );
  const batch = tinyData({ model }, 2).next();
  const traced = trace({ model, adapter, batch, isTraining: false });
  const inputs = batchInputs(model, batch);
  const externals: Record<string, ReferenceTensor> = {};
  for (const { origin, shape } of traced.tape.values) {
    if (origin.kind === "node") continue;
    const data = origin.kind === "parameter" ? tensors.get(origin.name)!.data : inputs[origin.name]!;
    expect(data.length, origin.name).toBe(elements(shape));
    externals[origin.name] = { shape, data: Float64Array.from(data) };
  }
  return [...evaluate(traced.tape, externals, [traced.logits])[0]!.data];
}

describe.each([...PRUNED, ...DECODERS])("%s without some heads and neurons of a layer", (family) => {
  const model = createModel(tiny[family]({ ...HEADS, ...layerCount(2) }));
  const groups = new Map(kept(model).map(([structure, { length }]) => [structureKey(structure), length]));
  const smaller = withGroups(model, groups);
  const complete = randomTensors(model);

  it("computes what the model with masks of 0 for them does", () => {
    const cut = new Map(complete);
    for (const [structure, own] of kept(model)) {
      for (const [name, slice] of structureSlices(model, structure, own)) {
        const tensor = complete.get(name);
        if (tensor) cut.set(name, gather(tensor, slice));
      }
    }
    const expected = logits(model, complete);
    const actual = logits(smaller, cut);
    expect(actual).toHaveLength(expected.length);
    actual.forEach((value, i) => expect(value).toBeCloseTo(expected[i]!, 10));
  });

  it("has the tensors of the model, smaller in this layer alone", () => {
    const changed = smaller.parameters.filter(({ shape }, i) => shape.join() !== model.parameters[i]!.shape.join());
    expect(smaller.parameters.map(({ name }) => name)).toEqual(model.parameters.map(({ name }) => name));
    expect(changed.length).toBeGreaterThan(0);
    expect(changed.every(({ layer }) => layer === 1)).toBe(true);
    // OLMo 2 norms all heads together, so that none can go.
    const groups = smaller.structures(1).map((structure) => structure.groups);
    expect(groups).toEqual(family === "olmo2" ? [3] : [1, 3]);
    expect(withGroups(model, new Map()).parameters).toEqual(model.parameters);
  });
});

describe("slices of tensors", () => {
  const matrix = { shape: [2, 3], data: Float32Array.of(1, 2, 3, 4, 5, 6) };

  it.each<[Slice, readonly number[], number[], number[]]>([
    [{ axis: 0, size: 2, kept: [1] }, [1, 3], [4, 5, 6], [0, 0, 0, 4, 5, 6]],
    [{ axis: 1, size: 3, kept: [0, 2] }, [2, 2], [1, 3, 4, 6], [1, 0, 3, 4, 0, 6]],
  ])("%o of a matrix", (slice, shape, values, scattered) => {
    const small = gather(matrix, slice);
    expect(small).toEqual({ shape, data: Float32Array.from(values) });
    expect(scatter(small, slice)).toEqual({ shape: [2, 3], data: Float32Array.from(scattered) });
  });

  it("are rows of q, k and v in GPT-2's fused projection, which is stored [in, out]", () => {
    const model = createModel(tiny.gpt2({ n_head: 4, n_layer: 1 }));
    // A layer has attention heads first.
    const slices = structureSlices(model, model.structures(0)[0]!, [1]);
    const outputs = [4, 5, 6, 7];
    const fused = [...outputs, ...outputs.map((i) => 16 + i), ...outputs.map((i) => 32 + i)];
    const path = "transformer.h.0.attn";
    expect(slices.get(`${path}.c_attn.weight`)).toEqual({ axis: 1, size: 48, kept: fused });
    expect(slices.get(`${path}.c_attn.bias`)).toEqual({ axis: 0, size: 48, kept: fused });
    expect(slices.get(`${path}.c_attn.lora_B.weight`)).toEqual({ axis: 0, size: 48, kept: fused });
    expect(slices.get(`${path}.c_proj.weight`)).toEqual({ axis: 0, size: 16, kept: outputs });
    expect(slices.get(`${path}.c_proj.lora_A.weight`)).toEqual({ axis: 1, size: 16, kept: outputs });
    expect(slices.has(`${path}.c_proj.bias`)).toBe(false);
  });
});
