import { describe, expect, it } from "vitest";
import {
  adalora,
  aflora,
  bitfit,
  dora,
  houlsby,
  ia3,
  initialiseModel,
  loadAdapter,
  loadModel,
  lora,
  pfeiffer,
  promptTuning,
  saveAdapter,
  saveMerged,
  saveModel,
  sora,
  Trainer,
  vera,
} from "safetape";
import { lnTuning, loha, lokr, mergeIntoModel, oft, prefixTuning, pTuning } from "safetape/analysis";
import { Batches, memoryDirectory } from "safetape/data";
import type { Adapter } from "safetape";
import { adapterLogits } from "../../scripts/interop-case";
import { useEngine } from "../support/engine";
import { failure } from "../support/failure";
import { relativeError } from "../../src/base/relative-error";
import { readFloatTensors } from "../../src/io/safetensors";
import { tiny, tinySamples } from "../support/tiny";
import { some } from "../support/long";

/** No dropout, and weights large enough for a visible effect of small changes. */
const CONFIGS = {
  bert: tiny.bert({ initializer_range: 0.2, hidden_dropout_prob: 0, attention_probs_dropout_prob: 0 }),
  gpt2: tiny.gpt2({
    initializer_range: 0.2,
    n_layer: 2,
    num_labels: 2,
    architectures: ["GPT2ForSequenceClassification"],
    resid_pdrop: 0,
    embd_pdrop: 0,
    attn_pdrop: 0,
  }),
  llama: tiny.llama({ initializer_range: 0.2, architectures: ["LlamaForSequenceClassification"] }),
};
const FAMILIES = ["bert", "gpt2"] as const;
type Family = keyof typeof CONFIGS;

interface Kind {
  readonly name: string;
  readonly make: () => Adapter;
  /** Whether it can be merged into the weights. */
  readonly merges?: boolean;
  /** Whether it is a sum of low-rank updates, which can be saved as LoRA. */
  readonly isLowRank?: boolean;
  /** Relative error of the logits after loading, where the file has other tensors than the adapter. Default none. */
  readonly tolerance?: number;
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
  { name: "lora by PiSSA", make: () => lora({ rank: 2, alpha: 4, init: "pissa" }), merges: true, isLowRank: true },
  {
    name: "lora by OLoRA with biases, all linear, ranks and alphas by module",
    merges: true,
    isLowRank: true,
    make: () =>
      lora({
        rank: 3,
        targets: "all-linear",
        bias: "lora_only",
        rankStabilised: true,
        rankPattern: { "0.*": 2 },
        alphaPattern: { "1.*": 3 },
        init: "olora",
      }),
  },
  {
    name: "lora by a randomised PiSSA, dropout",
    merges: true,
    isLowRank: true,
    make: () => lora({ rank: 3, init: "pissa_niter_4", dropout: 0.1 }),
  },
  { name: "dora by PiSSA", make: () => dora({ rank: 3, init: "pissa" }), merges: true },
  {
    name: "dora with biases, all linear, dropout",
    merges: true,
    make: () => dora({ rank: 3, targets: "all-linear", bias: "lora_only", rankStabilised: true, dropout: 0.1 }),
  },
  {
    name: "vera",
    make: () => vera({ rank: 5, targets: ".*[.](query|output[.]dense|c_attn|c_fc)" }),
    merges: true,
    isLowRank: true,
  },
  {
    name: "aflora",
    merges: true,
    isLowRank: true,
    make: () => aflora({ rank: 3, targets: ".*[.](query|intermediate[.]dense|c_attn|mlp[.]c_proj)" }),
  },
  {
    name: "adalora",
    make: () => adalora({ initialRank: 4, targetRank: 2, finalSteps: 2 }),
    merges: true,
    isLowRank: true,
    // AdaLoRA leaves its pruned triplets out, so its sums have fewer terms.
    tolerance: 1e-5,
  },
  { name: "sora", make: () => sora({ rank: 4, threshold: 0.05, penalty: 0.1 }), merges: true, isLowRank: true },
  { name: "ia3", make: () => ia3(), merges: true },
  {
    name: "loha",
    make: () =>
      loha({ rank: 3, alpha: 6, targets: "all-linear", rankPattern: { "0.*": 2 }, alphaPattern: { "1.*": 4 } }),
    merges: true,
    isLowRank: true,
  },
  {
    name: "loha with dropout",
    make: () => loha({ rank: 2, rankDropout: 0.1, moduleDropout: 0.1, layers: [1] }),
    merges: true,
    isLowRank: true,
  },
  {
    name: "lokr",
    make: () =>
      lokr({ rank: 1, alpha: 4, targets: "all-linear", rankPattern: { "0.*": 9 }, alphaPattern: { "0.*": 30 } }),
    merges: true,
  },
  {
    name: "lokr of two products with dropout",
    make: () => lokr({ rank: 1, decomposeBoth: true, decomposeFactor: 4, rankDropout: 0.1, rankDropoutScale: true }),
    merges: true,
  },
  { name: "oft", make: () => oft({ blockSize: 4, targets: "all-linear" }), merges: true },
  {
    name: "oft of shared blocks by the inverse",
    make: () => oft({ blocks: 2, blockShare: true, neumannTerms: 0 }),
    merges: true,
  },
  { name: "oft near the start", make: () => oft({ blockSize: 8, eps: 0.1, layers: [1] }), merges: true },
  { name: "bitfit", make: () => bitfit(), merges: true },
  { name: "ln_tuning", make: () => lnTuning(), merges: true },
  {
    name: "ln_tuning of a layer",
    make: () => lnTuning({ targets: ".*(output.LayerNorm|ln_1)", layers: [1] }),
    merges: true,
  },
  { name: "houlsby", make: () => houlsby({ size: 4 }) },
  { name: "houlsby with its norms", make: () => houlsby({ size: 4, trainsNorms: true }) },
  { name: "pfeiffer in the later layers", make: () => pfeiffer({ size: 4, layers: "later" }) },
  { name: "prompt", make: () => promptTuning({ tokens: 3 }) },
  { name: "prefix tuning", make: () => prefixTuning({ tokens: 3 }) },
  { name: "prefix tuning from zeros", make: () => prefixTuning({ tokens: 2, initial: "zero" }) },
  {
    name: "prefix tuning with a projection",
    make: () => prefixTuning({ tokens: 3, projection: true, encoderSize: 5 }),
    tolerance: 1e-5,
  },
  { name: "P-tuning", make: () => pTuning({ tokens: 3, encoderSize: 5 }), tolerance: 1e-5 },
  { name: "prompt from words", make: () => promptTuning({ tokens: 3, initial: [7, 9] }) },
];

/** Kinds for a model without biases. */
const ADDED_BIASES: readonly Kind[] = [
  { name: "bitfit with added biases", make: () => bitfit({ addBiases: true }), merges: true },
  {
    name: "lora with added biases",
    make: () => lora({ rank: 2, addBiases: true, bias: "lora_only", layers: [0, 2] }),
    merges: true,
  },
];

const RUNS = [
  ...KINDS.flatMap((kind) => FAMILIES.map((family) => ({ ...kind, family }))),
  ...ADDED_BIASES.map((kind) => ({ ...kind, family: "llama" as const })),
];

const engine = await useEngine();

const SAMPLES = tinySamples(4, { seed: 4, longest: 10 });

describe.each(some(RUNS, 3))("$name on $family", ({ make, family, merges, isLowRank, tolerance = 0 }) => {
  it("learns in the memory of its plan, and gives the same logits after it is saved and loaded", async () => {
    using model = await initialiseModel(engine, CONFIGS[family]);
    const adapter = make();
    const data = new Batches(SAMPLES, { size: 4, shuffle: false, padId: 0 });
    const optimizer = { learningRate: 2e-2 };
    using trainer = await Trainer.create({ model, adapter, data, steps: 8, optimizer });
    const losses: number[] = [];
    for await (const { loss, bytes } of trainer.steps()) {
      expect(bytes, "ledger against plan").toEqual(trainer.predictedBytes());
      losses.push(loss);
    }
    expect(losses.at(-1), "last loss").toBeLessThan(losses[0]!);
    const tensors = await trainer.state.snapshot();
    const batch = new Batches(SAMPLES, { size: 4, shuffle: false }).next();
    const expected = await adapterLogits(model, adapter, tensors, batch);

    const directory = memoryDirectory("saved");
    await saveAdapter(directory, trainer);
    const loaded = await loadAdapter(directory, model);
    const actual = await adapterLogits(model, loaded.adapter, loaded.tensors, batch);
    expect(relativeError(actual.data, expected.data), "after loading").toBeLessThanOrEqual(tolerance);

    if (isLowRank) {
      const plain = memoryDirectory("as lora");
      await saveAdapter(plain, trainer, { as: "lora" });
      const asLora = await loadAdapter(plain, model);
      expect(asLora.adapter.kind).toBe("lora");
      const loraLogits = await adapterLogits(model, asLora.adapter, asLora.tensors, batch);
      expect(relativeError(loraLogits.data, expected.data), "as plain LoRA").toBeLessThan(1e-5);
    } else {
      const error = await failure(saveAdapter(memoryDirectory("no lora"), trainer, { as: "lora" }));
      expect(error.message).toMatch(/low-rank/);
    }
    const base = memoryDirectory("base");
    await saveModel(base, model);
    if (merges) {
      const files = memoryDirectory("merged");
      await saveMerged(files, trainer);
      const fromFiles = memoryDirectory("merged from files");
      await mergeIntoModel(directory, base, fromFiles, { labels: 2 });
      const [now, later] = [
        await readFloatTensors(files, "model.safetensors"),
        await readFloatTensors(fromFiles, "model.safetensors"),
      ];
      expect([...later.keys()]).toEqual([...now.keys()]);
      for (const [name, { data }] of now) expect(relativeError(later.get(name)!.data, data), name).toBeLessThan(1e-6);
      using merged = await loadModel(engine, files);
      const none = lora({ rank: 1, targets: "all-linear" });
      using untouched = await Trainer.create({ model: merged, adapter: none, data, steps: 1 });
      const mergedLogits = await adapterLogits(merged, none, await untouched.state.snapshot(), batch);
      expect(relativeError(mergedLogits.data, expected.data), "merged").toBeLessThan(2e-5);
    } else {
      for (const merging of [
        () => saveMerged(memoryDirectory("not merged"), trainer),
        () => mergeIntoModel(directory, base, memoryDirectory("not merged"), { labels: 2 }),
      ]) {
        expect((await failure(merging)).message).toMatch(/cannot be merged/);
      }
    }
  });
});

describe("the initial prompt", () => {
  /** For each of five virtual tokens, the token ids whose embedding is its initial value. */
  const initialIds = async (family: Family, initial: "vocabulary" | readonly number[]): Promise<number[][]> => {
    using model = await initialiseModel(engine, CONFIGS[family]);
    const table = await model.weights.get(model.model.wordEmbeddings ?? "")!.read();
    const ids = Int32Array.of(3, 4, 5);
    const data = new Batches([{ ids, label: 1 }], { size: 1 });
    const adapter = promptTuning({ tokens: 5, initial });
    using trainer = await Trainer.create({ model, adapter, data, steps: 1 });
    const prompt = (await trainer.state.snapshot()).get("prompt_embeddings")!.data;
    const rowOf = (values: Float32Array, row: number): string => values.subarray(row * 16, (row + 1) * 16).join();
    const rows = Array.from({ length: 50 }, (_, row) => rowOf(table, row));
    return Array.from({ length: 5 }, (_, i) => rows.flatMap((row, id) => (row === rowOf(prompt, i) ? [id] : [])));
  };

  it.each(FAMILIES)("is the tokens of a text, repeated or cut to length: %s", async (family) => {
    expect(await initialIds(family, [7, 9])).toEqual([[7], [9], [7], [9], [7]]);
    expect(await initialIds(family, [1, 2, 3, 4, 5, 6])).toEqual([[1], [2], [3], [4], [5]]);
  });

  it.each<[string, Record<string, unknown>, number]>([
    ["Gemma", tiny.gemma3_text(), 4],
    ["BART with scale_embedding", tiny.bart({ scale_embedding: true }), 4],
    ["BART without", tiny.bart({ scale_embedding: false }), 1],
  ])("is multiplied as tokens are: %s", async (_, config, scale) => {
    using model = await initialiseModel(engine, config);
    const { task, wordEmbeddings } = model.model;
    const [row] = [await model.weights.get(wordEmbeddings!)!.readRows([7])];
    expect(row.length, "16 numbers, of which the square root is taken").toBe(16);
    const ids = Int32Array.of(3, 4, 5);
    const labels = task === "seq2seq" ? "target" : task === "causal_lm" ? "token" : "class";
    const data = new Batches([{ ids, label: labels === "class" ? 1 : ids }], { size: 1, labels });
    using trainer = await Trainer.create({ model, adapter: promptTuning({ tokens: 2, initial: [7] }), data, steps: 1 });
    const prompt = (await trainer.state.snapshot()).get("prompt_embeddings")!.data;
    expect([...prompt]).toEqual([...row, ...row].map((value) => value * scale));
  });

  it("is drawn from the vocabulary", async () => {
    const ids = await initialIds("gpt2", "vocabulary");
    expect(ids.every(({ length }) => length === 1)).toBe(true);
    expect(new Set(ids.flat()).size).toBeGreaterThan(1);
  });

  it.each([
    [[], /has no tokens/],
    [[3, 50], /token id 50; the model has ids below 50/],
    // Plain JavaScript may pass any text.
    ["words" as "vocabulary", /initial is words/],
  ])("%o is refused", async (initial, message) => {
    expect((await failure(initialIds("gpt2", initial))).message).toMatch(message);
  });
});
