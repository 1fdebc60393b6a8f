import { describe, expect, it } from "vitest";
import { loraPrune } from "../../src/freeze/lora-prune";
import type { GroupScores, StructurePruningPolicyState } from "../../src/freeze/policy";
import { createModel } from "../../src/model/families";
import type { Structure } from "../../src/model/structure";
import { groupImportance } from "../../src/train/plans/importance-plan";

const startPolicy = (): StructurePruningPolicyState =>
  loraPrune().start({ layers: 12, totalSteps: 100, stepsPerEpoch: 10 });
const progress = (step: number) => ({ step, totalSteps: 100, stepsPerEpoch: 10 });
const LLAMA = {
  model_type: "llama",
  vocab_size: 20,
  hidden_size: 16,
  intermediate_size: 24,
  num_hidden_layers: 12,
  num_attention_heads: 4,
  num_key_value_heads: 2,
};

describe("LoRAPrune's schedule", () => {
  const groups = (scores: number[], out: number[] = []): GroupScores[] => [
    // The policy reads scores alone.
    { structure: {} as Structure, scores: Float64Array.from(scores), out: new Set(out) },
  ];

  it("prunes the share 0.5 (1 - (1 - p)^3) of the groups, where p grows from 0 at step 10 to 1 at step 90 of 100", () => {
    const scores = Array.from({ length: 1000 }, (_, i) => i);
    const sizes = [20, 50, 70, 90, 100].map((step) => startPolicy().choose(progress(step), groups(scores))[0]?.size);
    // p = 0.125, 0.5, 0.75, 1, 1: 1000 times 0.1650390625, 0.4375, 0.4921875, 0.5, 0.5.
    expect(sizes).toEqual([165, 437, 492, 500, 500]);
  });

  const steps = Array.from({ length: 101 }, (_, step) => step);

  it("is due every tenth step after the warm-up, until the share has reached the ratio", () => {
    expect(steps.filter((step) => startPolicy().isDue(progress(step)))).toEqual([20, 30, 40, 50, 60, 70, 80]);
  });

  it("ends with 15 of 32 heads and 5503 of 11008 neurons, as the published code does for LLaMA 7B and a ratio of 0.5", () => {
    const long = (step: number) => ({ step, totalSteps: 1000, stepsPerEpoch: 100 });
    const policy = loraPrune().start({ layers: 32, totalSteps: 1000, stepsPerEpoch: 100 });
    let structures = [...groups(Array.from({ length: 32 }, (_, i) => i)), ...groups(Array<number>(11008).fill(1))];
    for (let step = 1; step <= 1000; step++) {
      if (!policy.isDue(long(step))) continue;
      const out = policy.choose(long(step), structures);
      structures = structures.map((structure, i) => ({ ...structure, out: out[i]! }));
    }
    expect(structures.map(({ out }) => out.size)).toEqual([15, 5503]);
  });

  it("cuts out what is removed at most so many times, the last time after the last removal", () => {
    const due = (compactions: number): number[] => {
      const state = loraPrune({ compactions }).start({ layers: 12, totalSteps: 100, stepsPerEpoch: 10 });
      return steps.filter((step) => state.isCompactionDue?.(progress(step)));
    };
    expect(due(0)).toEqual([]);
    expect(due(1)).toEqual([80]);
    // The share is 0.33, 0.58, 0.76, 0.88, 0.95, 0.98, 1.00 of the ratio after steps 20, 30, ... 80.
    expect(due(2)).toEqual([30, 80]);
    expect(due(4)).toEqual([20, 30, 40, 80]);
    expect(due(100)).toEqual([20, 30, 40, 50, 60, 70, 80]);
  });

  it("keeps pruned groups pruned, and adds the least important others", () => {
    const [chosen] = startPolicy().choose(progress(100), groups([5, 1, 4, 2, 3, 9], [5]));
    expect([...(chosen ?? [])].sort()).toEqual([1, 3, 5]);
  });

  it("prunes neither the first tenth of the layers nor the last one", () => {
    const model = createModel(LLAMA);
    const layers = Array.from({ length: 12 }, (_, layer) => model.structures(layer)[0]!);
    expect(layers.map((structure) => loraPrune().applies(structure, 12))).toEqual([
      false,
      ...Array.from({ length: 10 }, () => true),
      false,
    ]);
  });
});

describe("importance of groups", () => {
  it("is divided by its norm over the groups of each projection, then summed over projections", () => {
    const structure: Structure = {
      kind: "heads",
      layer: 1,
      groups: 2,
      outputs: [{ projection: "q", offset: 1, size: 2 }],
      inputs: [{ projection: "o", offset: 0, size: 1 }],
    };
    const values: Record<string, Float32Array> = {
      "q out": Float32Array.of(100, 1, 2, 3, 1),
      "o in": Float32Array.of(6, 8),
    };
    const importance = groupImportance(structure, (projection, of) => values[`${projection} ${of}`]);
    // q: (1 + 2, 3 + 1) / 5; o: (6, 8) / 10.
    expect([...importance]).toEqual([0.6 + 0.6, 0.8 + 0.8]);
  });

  it("is 0 for groups that are out, which then count in no norm", () => {
    const outputs = [{ projection: "wide", offset: 0, size: 1 }];
    const structure: Structure = { kind: "neurons", layer: 1, groups: 3, outputs, inputs: [] };
    expect([...groupImportance(structure, () => Float32Array.of(3, 100, 4), new Set([1]))]).toEqual([0.6, 0, 0.8]);
  });

  it("counts all query heads of a key-value head in its group", () => {
    // A layer of LLaMA has these two structures.
    const [heads, neurons] = createModel(LLAMA).structures(3) as [Structure, Structure];
    expect(heads).toEqual({
      kind: "heads",
      layer: 3,
      groups: 2,
      outputs: [
        { projection: "model.layers.3.self_attn.q_proj", offset: 0, size: 8 },
        { projection: "model.layers.3.self_attn.k_proj", offset: 0, size: 4 },
        { projection: "model.layers.3.self_attn.v_proj", offset: 0, size: 4 },
      ],
      inputs: [{ projection: "model.layers.3.self_attn.o_proj", offset: 0, size: 8 }],
    });
    expect(neurons.outputs.map(({ projection }) => projection.split(".").at(-1))).toEqual(["gate_proj", "up_proj"]);
  });

  it("covers queries, keys and values in the fused projection of GPT-2", () => {
    const config = { model_type: "gpt2", vocab_size: 20, n_positions: 8, n_embd: 12, n_layer: 2, n_head: 3 };
    // A layer has attention heads first.
    const [heads] = createModel(config).structures(0) as [Structure];
    expect(heads.outputs.map(({ offset, size }) => [offset, size])).toEqual([
      [0, 4],
      [12, 4],
      [24, 4],
    ]);
  });
});
