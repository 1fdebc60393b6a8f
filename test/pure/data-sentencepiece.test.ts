import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { FileFormatError } from "../../src/base/errors";
import { loadTokenizer } from "../../src/data/tokenizer";
import type { Tokenizer } from "../../src/data/tokenizer";
import { memoryDirectory } from "../../src/io/directory";
import { jsonBytes } from "../../src/io/json";
import { failure } from "../support/failure";
import { parseJson, readJson } from "../support/json";
import { sentencePieceModel } from "../support/sentencepiece.mjs";
import { sharedData, sharedFile, unless } from "../support/shared-data";

interface Case {
  readonly text: string;
  readonly pair?: string;
  readonly with_special: { readonly ids: number[]; readonly type_ids: number[] };
}

const shared = sharedData("tokenizers");

const casesOf = (name: string): Case[] => {
  const { cases, pairs } = readJson<{ cases: Case[]; pairs: Case[] }>(join(shared!, name, "expected.json"));
  return [...cases, ...pairs];
};

function expectSame(tokenizer: Tokenizer, cases: readonly Case[]): void {
  for (const { text, pair, with_special: wanted } of cases) {
    const { ids, typeIds } = tokenizer.encode(text, pair);
    expect([...ids], text).toEqual(wanted.ids);
    expect([...typeIds], text).toEqual(wanted.type_ids);
  }
}

describe.skipIf(shared === undefined)(
  `published models of SentencePiece without a tokenizer.json${unless(shared)}`,
  () => {
    it.each([
      ["t5-small", "spiece.model", "t5"],
      ["llama-2-7b-chat", "tokenizer.model", "llama"],
    ])("%s has the ids of its tokenizer.json, by config.json or tokenizer_config.json", async (name, file, family) => {
      const model = sharedFile(join(shared!, name), file);
      const config = sharedFile(join(shared!, name), "tokenizer_config.json");
      // The scores of t5-small's tokenizer.json are rounded, so that sequences of hyphens that are equally likely differ.
      const cases = casesOf(name).filter(({ text }) => name !== "t5-small" || !text.includes("-----"));
      for (const more of [{ "tokenizer_config.json": config }, { "config.json": jsonBytes({ model_type: family }) }]) {
        expectSame(await loadTokenizer(memoryDirectory(name, { [file]: model, ...more })), cases);
      }
      expect(cases.length).toBeGreaterThanOrEqual(37);
    });

    it("DeBERTa's has the ids of the tokenizer.json that was made of it", async () => {
      const name = "deberta-v3-base";
      const { model, normalizer } = parseJson<{
        model: { vocab: [string, number][] };
        normalizer: { normalizers: { precompiled_charsmap?: string }[] };
      }>(new TextDecoder().decode(sharedFile(join(shared!, name), "tokenizer.json")));
      const table = normalizer.normalizers.find(({ precompiled_charsmap: found }) => found !== undefined);
      const kindOf = (text: string): number => (text === "[UNK]" ? 2 : /^\[(?:PAD|CLS|SEP)\]$/.test(text) ? 3 : 1);
      const pieces = model.vocab.map(([text, score]) => ({ text, score, kind: kindOf(text) }));
      const replacements = new Uint8Array(Buffer.from(table!.precompiled_charsmap!, "base64"));
      const directory = memoryDirectory(name, {
        "spm.model": sentencePieceModel(pieces, { replacements }),
        "config.json": jsonBytes({ model_type: "deberta-v2" }),
      });
      expectSame(await loadTokenizer(directory), casesOf(name));
    });
  },
);

describe("a model of SentencePiece", () => {
  const specials = [
    { text: "<unk>", kind: 2 },
    { text: "<s>", kind: 3 },
    { text: "</s>", kind: 3 },
  ];
  const letters = ["\u2581", "a", "b", "c"].map((text) => ({ text, score: -5 }));
  const merged = [
    { text: "ab", score: -1 },
    { text: "\u2581a", score: -2 },
    { text: "bc", score: -3 },
    { text: "\u2581ab", score: -4 },
  ];
  const load = async (model: Uint8Array, tokenizer_class: string, config: object = {}) =>
    loadTokenizer(
      memoryDirectory("m", {
        "tokenizer.model": model,
        "tokenizer_config.json": jsonBytes({ tokenizer_class, ...config }),
      }),
    );
  const encode = (tokenizer: Tokenizer, text: string): number[] => [...tokenizer.encode(text).ids];

  it("of merges joins the likeliest pieces first, and spells what it does not know in bytes", async () => {
    const bytes = Array.from({ length: 256 }, (_, byte) => ({
      text: `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`,
      kind: 6,
    }));
    const pieces = [...specials, ...letters, ...merged, ...bytes];
    const idOf = (text: string): number => pieces.findIndex((piece) => piece.text === text);
    const model = sentencePieceModel(pieces, { algorithm: 2, byteFallback: true, removesSpaces: false });
    const tokenizer = await load(model, "LlamaTokenizer");
    expect(encode(tokenizer, "abc  bc")).toEqual(["<s>", "\u2581ab", "c", "\u2581", "\u2581", "bc"].map(idOf));
    expect(encode(tokenizer, "é")).toEqual(["<s>", "\u2581", "<0xC3>", "<0xA9>"].map(idOf));
    expect(tokenizer.decode(encode(tokenizer, "é abc"))).toBe("é abc");
    const ends = await load(model, "LlamaTokenizerFast", { add_bos_token: false, add_eos_token: true });
    expect(encode(ends, "a")).toEqual(["\u2581a", "</s>"].map(idOf));
    expect(ends.beginIds).toEqual([]);
  });

  it("of XLM-RoBERTa has fairseq's ids", async () => {
    const model = sentencePieceModel([...specials, ...letters, ...merged]);
    const tokenizer = await load(model, "XLMRobertaTokenizer");
    // <s>, <pad>, </s> and <unk> come first, then the pieces after the first three, then <mask>.
    expect(encode(tokenizer, "ab  x")).toEqual([0, 4 + 7, 4, 3, 2]);
    expect([...tokenizer.encode("a", "b").ids]).toEqual([0, 4 + 5, 2, 2, 4, 6, 2]);
    expect([tokenizer.idOf("<mask>"), tokenizer.vocabularySize]).toEqual([12, 13]);
  });

  it("has the tokens that tokenizer_config.json and added_tokens.json add", async () => {
    const directory = memoryDirectory("m", {
      "tokenizer.model": sentencePieceModel([...specials, ...letters]),
      "tokenizer_config.json": jsonBytes({
        tokenizer_class: "GemmaTokenizer",
        bos_token: "<s>",
        added_tokens_decoder: { 7: { content: "<turn>", special: true } },
      }),
      "added_tokens.json": jsonBytes({ "<more>": 8 }),
    });
    expect(encode(await loadTokenizer(directory), "<turn>a<more>")).toEqual([1, 7, 3, 4, 8]);
  });

  it.each<[string, Uint8Array, string, RegExp]>([
    ["another class", sentencePieceModel(specials), "RocketTokenizer", /class RocketTokenizer is not supported/],
    ["words as tokens", sentencePieceModel(specials, { algorithm: 3 }), "T5Tokenizer", /algorithm 3 is not supp/],
    ["a missing token", sentencePieceModel(letters), "T5Tokenizer", /no token <\/s>, which its tokenizer class/],
    ["a file that is cut off", sentencePieceModel(specials).slice(0, 9), "T5Tokenizer", /it ends within a field/],
    ["text", new TextEncoder().encode("<html>"), "T5Tokenizer", /tokenizer.model in m cannot be used: it is no model/],
    ["nothing", new Uint8Array(), "T5Tokenizer", /it has no pieces/],
  ])("is refused for %s", async (_, model, name, fact) => {
    expect((await failure(load(model, name), FileFormatError)).message).toMatch(fact);
  });
});
