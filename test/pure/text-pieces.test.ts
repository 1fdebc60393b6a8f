import { describe, expect, it } from "vitest";
import { loadTokenizer, memoryDirectory } from "safetape/data";
import type { Tokenizer } from "safetape/data";
import { followingText, TextPieces } from "../../src/data/text-pieces";
import { jsonBytes } from "../../src/io/json";
import { TOKENIZERS } from "../support/model-folder";

/** A tokenizer as LLaMA's: a token for each byte of characters that it does not know, and spaces in tokens. */
async function byteFallback(): Promise<Tokenizer> {
  const bytes = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`);
  const pieces = ["<unk>", ...bytes, "▁", ...Array.from("abcdefghijklmnopqrstuvwxyz.,")];
  const space = { type: "Replace", pattern: { String: " " }, content: "▁" };
  const json = {
    version: "1.0",
    added_tokens: [
      { id: 0, content: "<unk>", special: true, single_word: false, lstrip: false, rstrip: false, normalized: false },
    ],
    normalizer: { type: "Sequence", normalizers: [{ type: "Prepend", prepend: "▁" }, space] },
    pre_tokenizer: null,
    post_processor: null,
    decoder: {
      type: "Sequence",
      decoders: [
        { type: "Replace", pattern: { String: "▁" }, content: " " },
        { type: "ByteFallback" },
        { type: "Fuse" },
        { type: "Strip", content: " ", start: 1, stop: 0 },
      ],
    },
    model: {
      type: "BPE",
      unk_token: "<unk>",
      fuse_unk: true,
      byte_fallback: true,
      vocab: Object.fromEntries(pieces.map((piece, id) => [piece, id])),
      merges: [],
    },
  };
  return loadTokenizer(memoryDirectory("t", { "tokenizer.json": jsonBytes(json) }));
}

const tokenizers: readonly (readonly [string, Tokenizer])[] = [
  ["byte-level", await loadTokenizer(TOKENIZERS.gpt2)],
  ["with bytes for unknown characters", await byteFallback()],
];
const idsOf = (tokenizer: Tokenizer, text: string): number[] => [
  ...tokenizer.encode(text, undefined, { specialTokens: false }).ids,
];
const TEXT = "the film, 👩‍🚀 naïve  日本語 a𝒳b é.";

describe.each(tokenizers)("pieces of texts, %s", (_, tokenizer) => {
  it("are the text together, and whole characters each", () => {
    const ids = idsOf(tokenizer, TEXT);
    const pieces = new TextPieces(tokenizer);
    const given = [...ids.map((id) => pieces.add(id)), pieces.end()];
    expect(given.join("")).toBe(TEXT);
    for (const piece of given) {
      expect(piece).not.toContain("\ufffd");
      expect(piece, "halves of characters").not.toMatch(/\p{Surrogate}/u);
    }
    expect(given.filter((piece) => piece !== "").length, "they do not wait for the end").toBeGreaterThan(20);
  });

  it("go on with the space that follows a prompt", () => {
    const [before, both] = [idsOf(tokenizer, "a film"), idsOf(tokenizer, "a film is good")];
    expect(both.slice(0, before.length)).toEqual(before);
    expect(followingText(tokenizer, before, both.slice(before.length))).toBe(" is good");
  });

  it("end with what is no character", () => {
    const ids = idsOf(tokenizer, "a 👩").slice(0, -1);
    expect(followingText(tokenizer, [], ids)).toBe(tokenizer.decode(ids));
    expect(tokenizer.decode(ids)).toContain("\ufffd");
  });

  it("end before the first stop text, of which no part is given", () => {
    const pieces = new TextPieces(tokenizer, [], ["日本", "film. x", "语"]);
    const given = idsOf(tokenizer, "the film. a film 日本語 b").map((id) => pieces.add(id));
    expect(given.join("") + pieces.end()).toBe("the film. a film ");
    expect(pieces.hasStopped).toBe(true);
    expect(followingText(tokenizer, [], idsOf(tokenizer, "a film"), ["film. x"]), "what began none").toBe("a film");
  });
});
