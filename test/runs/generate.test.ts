import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { ConfigError, DataError, generate, loadAdapter, loadModel, makeBatch, openDirectory, Trainer } from "safetape";
import type { GenerateOptions, LoadedModel } from "safetape";
import { useEngine } from "../support/engine";

interface Case {
  readonly family: string;
  readonly adapter: string;
  readonly search: string;
  readonly endIds: readonly number[];
  readonly texts: readonly { readonly ids: number[]; readonly hasEnded: boolean; readonly score?: number }[];
}

interface Search {
  readonly max_new_tokens: number;
  readonly num_beams?: number;
  readonly length_penalty?: number;
  readonly no_repeat_ngram_size?: number;
  readonly early_stopping?: boolean;
}

const DATA = "test/interop-data";
/** What transformers gives; made by test/interop/generate.py. */
const { prompts, searches, cases } = JSON.parse(readFileSync("test/interop/generate.json", "utf8")) as {
  readonly prompts: number[][];
  readonly searches: Readonly<Record<string, Search>>;
  readonly cases: readonly Case[];
};

const engine = await useEngine();

const open = (family: string): Promise<LoadedModel> => loadModel(engine, `${DATA}/${family}/base`);

function optionsOf(search: Search, endIds: readonly number[]): GenerateOptions {
  return {
    maxNewTokens: search.max_new_tokens,
    beams: search.num_beams ?? 1,
    endIds,
    lengthPenalty: search.length_penalty ?? 1,
    noRepeatNgram: search.no_repeat_ngram_size ?? 0,
    earlyStopping: search.early_stopping ?? false,
  };
}

async function continued(loaded: LoadedModel, { family, adapter, search, endIds }: Case, batchSize?: number) {
  const weights =
    adapter === "base" ? undefined : await loadAdapter(await openDirectory(`${DATA}/${family}/${adapter}`), loaded);
  const options = optionsOf(searches[search]!, endIds);
  return generate(loaded, prompts, { ...options, ...(weights && { weights }), ...(batchSize && { batchSize }) });
}

describe("as transformers continues them", () => {
  it.each(cases.map((one) => [`${one.family}, ${one.adapter}: ${one.search}`, one] as const))("%s", async (_, one) => {
    using loaded = await open(one.family);
    const found = await continued(loaded, one);
    one.texts.forEach(({ ids, hasEnded, score }, i) => {
      expect(found[i]?.ids, `prompt ${i + 1}`).toEqual(ids);
      expect(found[i]?.hasEnded, `whether prompt ${i + 1} ended`).toBe(hasEnded);
      if (score !== undefined) expect(found[i]?.score, `score of prompt ${i + 1}`).toBeCloseTo(score, 4);
    });
  });
});

it("gives the same for prompts one by one as for prompts together", async () => {
  using loaded = await open("llama");
  const one = cases.find(({ family, search }) => family === "llama" && search.startsWith("10 beams"))!;
  expect(await continued(loaded, one, 1)).toEqual(await continued(loaded, one, 4));
});

it("goes on to the model's last position and not beyond", async () => {
  using loaded = await open("gpt2");
  const { maxLength } = loaded.model;
  const told: number[] = [];
  const onToken = (made: number, most: number): void => void told.push(made / most);
  const [found] = await generate(loaded, [prompts[0]!], { maxNewTokens: 500, endIds: [], onToken });
  expect(found?.ids.length).toBe(maxLength - prompts[0]!.length + 1);
  const before = Array.from({ length: (found?.ids.length ?? 0) - 1 }, (_, i) => (i + 1) / 500);
  expect(told, "told after each token but the last, which ends the text").toEqual(before);
});

it("continues with what a trainer has learnt, and leaves its memory as it was", async () => {
  using loaded = await open("gpt2");
  const { adapter, tensors } = await loadAdapter(await openDirectory(`${DATA}/gpt2/lora`), loaded);
  const ids = Int32Array.from(prompts[2]!);
  const batch = makeBatch([{ ids, label: ids }], { size: 1, length: ids.length, labels: "token", padId: 0 });
  const data = { perEpoch: 1, next: () => batch };
  using trainer = await Trainer.create({ model: loaded, adapter, initial: tensors, data, steps: 2 });
  const one = cases.find(({ family, adapter: kind }) => family === "gpt2" && kind === "lora")!;
  const before = engine.ledger.liveBytes;
  const found = await trainer.generate(prompts, optionsOf(searches[one.search]!, one.endIds));
  expect(found.map((text) => text.ids)).toEqual(one.texts.map((text) => text.ids));
  expect(engine.ledger.liveBytes, "bytes after generating").toBe(before);
  const result = await trainer.train();
  expect(Number.isFinite(result.lossLast)).toBe(true);
});

describe("bad input", () => {
  it.each([
    ["an empty prompt", [[]], {}, DataError, /prompt 1 is empty/],
    ["an id that the model does not know", [[3], [83]], {}, DataError, /prompt 2 has the token id 83.*below 83/s],
    ["a prompt longer than the model", [Array.from({ length: 49 }, () => 1)], {}, DataError, /49 tokens.*room for 48/s],
    ["no beams", [[1]], { beams: 0 }, ConfigError, /beams is 0/],
    ["a length penalty that is no number", [[1]], { lengthPenalty: Number.NaN }, ConfigError, /lengthPenalty is NaN/],
  ] as const)("%s", async (_name, given, options, kind, message) => {
    using loaded = await open("gpt2");
    const before = engine.ledger.liveBytes;
    const failure = generate(loaded, given, options);
    await expect(failure).rejects.toThrow(kind);
    await expect(failure).rejects.toThrow(message);
    expect(engine.ledger.liveBytes).toBe(before);
  });

  it("a model without a language head", async () => {
    using loaded = await loadModel(engine, `${DATA}/gpt2/base`, { task: "sequence_classification", labels: 2 });
    await expect(generate(loaded, [[1]])).rejects.toThrow(/head for sequence_classification/);
  });

  it("logits that are not finite", async () => {
    using loaded = await open("gpt2");
    const table = loaded.weights.get("transformer.wte.weight");
    table?.write(new Float32Array(83 * 32).fill(Number.NaN));
    await expect(generate(loaded, [[1]])).rejects.toThrow(/logit of new token 1 is not finite/);
  });
});
