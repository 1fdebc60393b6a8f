import { describe, expect, it } from "vitest";
import {
  adalora,
  aflora,
  Batches,
  bitfit,
  houlsby,
  ia3,
  initialiseModel,
  loadAdapter,
  loadModel,
  lora,
  memoryDirectory,
  pfeiffer,
  promptTuning,
  saveAdapter,
  saveMerged,
  sora,
  Trainer,
  vera,
} from "safetape";
import type { Adapter, Sample } from "safetape";
import { adapterLogits } from "../../scripts/interop-case";
import { Random } from "../../src/base/random";
import { useEngine } from "../support/engine";
import { relativeError } from "../support/op-runs";

const SIZES = { vocab_size: 40, max_position_embeddings: 32, initializer_range: 0.2 };
const FAMILIES = {
  bert: {
    ...SIZES,
    model_type: "bert",
    hidden_size: 16,
    num_hidden_layers: 3,
    num_attention_heads: 2,
    intermediate_size: 24,
    num_labels: 2,
    hidden_dropout_prob: 0,
    attention_probs_dropout_prob: 0,
  },
  gpt2: {
    ...SIZES,
    model_type: "gpt2",
    n_embd: 16,
    n_layer: 2,
    n_head: 2,
    n_positions: 32,
    num_labels: 2,
    architectures: ["GPT2ForSequenceClassification"],
    resid_pdrop: 0,
    embd_pdrop: 0,
    attn_pdrop: 0,
  },
};

type Family = keyof typeof FAMILIES;

interface Kind {
  readonly name: string;
  readonly make: () => Adapter;
  /** It is a change of weights. */
  readonly merges?: boolean;
  /** It is a sum of low-rank updates. */
  readonly isLowRank?: boolean;
  readonly families?: readonly Family[];
}

const KINDS: readonly Kind[] = [
  { name: "lora", make: () => lora({ rank: 2, alpha: 4 }), merges: true, isLowRank: true },
  {
    name: "lora with biases, all linear, ranks by module",
    merges: true,
    isLowRank: true,
    make: () =>
      lora({ rank: 3, targets: "all-linear", bias: "lora_only", rankStabilised: true, rankPattern: { "0.*": 2 } }),
  },
  {
    name: "vera",
    make: () => vera({ rank: 5, targets: ["query", "output.dense", "c_attn", "c_fc"] }),
    merges: true,
    isLowRank: true,
  },
  {
    name: "aflora",
    merges: true,
    isLowRank: true,
    make: () => aflora({ rank: 3, targets: ["query", "intermediate.dense", "c_attn", "mlp.c_proj"] }),
  },
  {
    name: "adalora",
    make: () => adalora({ initialRank: 4, targetRank: 2, finalSteps: 2 }),
    merges: true,
    isLowRank: true,
  },
  { name: "sora", make: () => sora({ rank: 4, threshold: 0.05, penalty: 0.1 }), merges: true, isLowRank: true },
  { name: "ia3", make: () => ia3(), merges: true },
  { name: "bitfit", make: () => bitfit(), merges: true },
  { name: "houlsby", make: () => houlsby({ size: 4 }) },
  { name: "pfeiffer in the later layers", make: () => pfeiffer({ size: 4, layers: "later" }) },
  { name: "prompt", make: () => promptTuning({ tokens: 3 }) },
  { name: "prompt from words", make: () => promptTuning({ tokens: 3, initial: [7, 9] }) },
];

const RUNS = KINDS.flatMap((kind) =>
  (kind.families ?? (Object.keys(FAMILIES) as Family[])).map((family) => ({ ...kind, family })),
);

const engine = await useEngine();

function samples(count: number): Sample[] {
  const random = new Random(4);
  return Array.from({ length: count }, () => {
    const ids = Int32Array.from({ length: 3 + random.below(8) }, () => 1 + random.below(39));
    return { ids, label: ids[1]! % 2 };
  });
}

describe.each(RUNS)("$name on $family", ({ make, family, merges, isLowRank }) => {
  it("learns within its plan, and is the same after a save and a load", async () => {
    using model = await initialiseModel(engine, FAMILIES[family]);
    const adapter = make();
    const data = new Batches(samples(4), { size: 4, shuffle: false, padId: 0 });
    const optimizer = { learningRate: 2e-2 };
    using trainer = await Trainer.create({ model, adapter, data, steps: 8, optimizer });
    const losses: number[] = [];
    for await (const { loss, bytes } of trainer.steps()) {
      expect(bytes, "ledger against plan").toEqual(trainer.predictedBytes());
      losses.push(loss);
    }
    expect(losses.at(-1), "last loss").toBeLessThan(losses[0]!);
    const tensors = await trainer.state.snapshot();
    const batch = new Batches(samples(4), { size: 4, shuffle: false }).next();
    const expected = await adapterLogits(model, adapter, tensors, batch);

    const directory = memoryDirectory("saved");
    await saveAdapter(directory, trainer);
    const loaded = await loadAdapter(directory, model);
    const actual = await adapterLogits(model, loaded.adapter, loaded.tensors, batch);
    // AdaLoRA leaves its pruned triplets out, so that sums have other lengths.
    const tolerance = adapter.kind === "adalora" ? 1e-5 : 0;
    expect(relativeError(actual.data, expected.data), "after loading").toBeLessThanOrEqual(tolerance);

    if (isLowRank) {
      const plain = memoryDirectory("as lora");
      await saveAdapter(plain, trainer, { as: "lora" });
      const asLora = await loadAdapter(plain, model);
      expect(asLora.adapter.kind).toBe("lora");
      const same = await adapterLogits(model, asLora.adapter, asLora.tensors, batch);
      expect(relativeError(same.data, expected.data), "as plain LoRA").toBeLessThan(1e-5);
    } else {
      await expect(saveAdapter(memoryDirectory("no lora"), trainer, { as: "lora" })).rejects.toThrow(/low-rank/);
    }
    if (merges) {
      const whole = memoryDirectory("merged");
      await saveMerged(whole, trainer);
      using merged = await loadModel(engine, whole);
      const none = lora({ rank: 1, targets: "all-linear" });
      using untouched = await Trainer.create({ model: merged, adapter: none, data, steps: 1 });
      const same = await adapterLogits(merged, none, await untouched.state.snapshot(), batch);
      expect(relativeError(same.data, expected.data), "merged").toBeLessThan(2e-5);
    } else {
      await expect(saveMerged(memoryDirectory("not merged"), trainer)).rejects.toThrow(/cannot be merged/);
    }
  });
});

describe("where a prompt begins", () => {
  const start = async (family: Family, initial: "vocabulary" | readonly number[]): Promise<number[][]> => {
    using model = await initialiseModel(engine, FAMILIES[family]);
    const table = await model.weights.get(model.model.wordEmbeddings ?? "")!.read();
    const ids = Int32Array.of(3, 4, 5);
    const data = new Batches([{ ids, label: 1 }], { size: 1 });
    const adapter = promptTuning({ tokens: 5, initial });
    using trainer = await Trainer.create({ model, adapter, data, steps: 1 });
    const prompt = (await trainer.state.snapshot()).get("prompt_embeddings")!.data;
    const rowOf = (values: Float32Array, row: number): string => values.subarray(row * 16, (row + 1) * 16).join();
    const rows = Array.from({ length: 40 }, (_, row) => rowOf(table, row));
    return Array.from({ length: 5 }, (_, i) => rows.flatMap((row, id) => (row === rowOf(prompt, i) ? [id] : [])));
  };

  it.each(["bert", "gpt2"] as const)("is a text, repeated, or cut: %s", async (family) => {
    expect(await start(family, [7, 9])).toEqual([[7], [9], [7], [9], [7]]);
    expect(await start(family, [1, 2, 3, 4, 5, 6])).toEqual([[1], [2], [3], [4], [5]]);
  });

  it("is tokens of the vocabulary", async () => {
    const found = await start("gpt2", "vocabulary");
    expect(found.every(({ length }) => length === 1)).toBe(true);
    expect(new Set(found.flat()).size).toBeGreaterThan(1);
  });

  it.each([
    [[], /has no tokens/],
    [[3, 40], /token id 40; the model knows ids below 40/],
    ["words" as never, /begin words/],
  ])("refuses %o", async (initial, message) => {
    await expect(start("gpt2", initial)).rejects.toThrow(message);
  });
});
