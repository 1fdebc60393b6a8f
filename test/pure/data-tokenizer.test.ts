import { join } from "node:path";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { DataError, FileFormatError } from "../../src/base/errors";
import { loadTokenizer } from "../../src/data/tokenizer";
import type { Tokenizer } from "../../src/data/tokenizer";
import { truncatedLengths } from "../../src/data/loaded-tokenizer";
import { memoryDirectory } from "../../src/io/directory";
import type { Directory } from "../../src/io/directory";
import { jsonBytes } from "../../src/io/json";
import { openDirectory } from "../../src/node/directory";
import { failure } from "../support/failure";
import { readJson } from "../support/json";
import type { Config } from "../support/tiny";

const DATA = fileURLToPath(new URL("../interop-data/tokenizers/", import.meta.url));
const open = async (name: string) => loadTokenizer(await openDirectory(join(DATA, name)));

interface Expected {
  readonly text: string;
  readonly pair: string | null;
  readonly maxLength: number | null;
  readonly ids: readonly number[];
  readonly typeIds: readonly number[];
  readonly decoded: string;
}

describe.each(["bert", "gpt2", "roberta"])("a tokenizer like that of %s", (name) => {
  const cases = readJson<Expected[]>(join(DATA, name, "expected.json"));

  test.each(cases)("gives the tokens of Python: $text | $pair, at most $maxLength", async (expected) => {
    const tokenizer = await open(name);
    const { ids, typeIds, removed } = tokenizer.encode(
      expected.text,
      expected.pair ?? undefined,
      expected.maxLength === null ? {} : { maxLength: expected.maxLength },
    );
    expect([...ids]).toEqual(expected.ids);
    expect([...typeIds]).toEqual(expected.typeIds);
    if (expected.maxLength === null) expect(removed).toBe(0);
    expect(tokenizer.decode(ids)).toBe(expected.decoded);
  });
});

describe("special tokens", () => {
  test("of BERT have their roles, whether the file has them as texts or as objects", async () => {
    const tokenizer = await open("bert");
    const roles = ["pad", "cls", "sep", "eos"] as const;
    expect(roles.map((role) => tokenizer.specialId(role))).toEqual([0, 2, undefined, undefined]);
    expect([tokenizer.idOf("[SEP]"), tokenizer.idOf("no such token")]).toEqual([3, undefined]);
    expect([tokenizer.vocabularySize, tokenizer.modelMaxLength]).toEqual([160, 48]);
  });

  test("do not include a maximum length where Python writes 1e30", async () => {
    expect((await open("gpt2")).modelMaxLength).toBeUndefined();
  });

  test("can be left out, and kept when decoding", async () => {
    const tokenizer = await open("bert");
    const { ids } = tokenizer.encode("never", undefined, { specialTokens: false });
    expect(tokenizer.decode(ids)).toBe("never");
    expect(tokenizer.decode(tokenizer.encode("never").ids, { keepSpecial: true })).toBe("[CLS] never [SEP]");
    expect(tokenizer.decode([])).toBe("");
  });
});

describe("tokens of tokenizer_config.json", () => {
  const load = async (config: object, changes: object = {}) => {
    const json = readJson<Config>(join(DATA, "bert", "tokenizer.json"));
    const files = { "tokenizer.json": jsonBytes({ ...json, ...changes }), "tokenizer_config.json": jsonBytes(config) };
    return loadTokenizer(memoryDirectory("t", files));
  };
  const token = { content: "<new>", special: true, lstrip: true, normalized: false };
  const plain = async (tokenizer: Promise<Tokenizer>, text: string) => [
    ...(await tokenizer).encode(text, undefined, { specialTokens: false }).ids,
  ];

  test("are added as transformers adds them", async () => {
    const config = { added_tokens_decoder: { 160: token } };
    expect(await plain(load(config), "never <new>")).toEqual([...(await plain(load({}), "never")), 160]);
    expect((await load(config)).vocabularySize).toBe(161);
  });

  test("are found in texts where tokenizer.json has them as words alone", async () => {
    const ids = await plain(load({ sep_token: "[SEP]" }, { added_tokens: [] }), "[SEP]");
    expect(ids).toEqual([3]);
    expect(await plain(load({}, { added_tokens: [] }), "[SEP]")).not.toEqual(ids);
  });

  test("are refused if their ids are other tokens'", async () => {
    const error = await failure(load({ added_tokens_decoder: { 7: token } }), FileFormatError);
    expect(error.fact).toMatch(/tokenizer_config\.json in t: "<new>" has the id 7, which is "/);
  });
});

describe("limits of length", () => {
  test("cut a longer text and count the removed tokens, or give an error", async () => {
    const tokenizer = await open("bert");
    const text = "an unforgettable , quietly hilarious story of two brothers";
    const { ids } = tokenizer.encode(text);
    expect(tokenizer.encode(text, undefined, { maxLength: ids.length }).removed).toBe(0);
    expect(tokenizer.encode(text, undefined, { maxLength: 5 }).removed).toBe(ids.length - 5);
    expect(() => tokenizer.encode(text, undefined, { maxLength: 5, tooLong: "throw" })).toThrow(
      /a text has \d+ tokens, more than the 5 allowed: "an unforgettable/,
    );
    expect(() => tokenizer.encode(text, undefined, { maxLength: 1 })).toThrow(/no room for the 2 special tokens/);
  });

  test("cut no more than necessary, and the shorter text of a pair never below half of the room", () => {
    fc.assert(
      fc.property(fc.nat(60), fc.nat(60), fc.nat(100), (first, second, room) => {
        const [a, b] = truncatedLengths(first, second, room);
        expect(a + b).toBe(Math.min(room, first + second));
        expect(a <= first && b <= second && a >= 0 && b >= 0).toBe(true);
        expect(Math.min(a, b)).toBe(Math.min(first, second, Math.floor(room / 2)));
      }),
    );
  });

  test("do not concern decoding, which names an id without a token", async () => {
    const tokenizer = await open("bert");
    for (const id of [160, -1, 1.5]) expect(() => tokenizer.decode([2, id])).toThrow(`no token has the id ${id}`);
  });
});

describe("a tokenizer cannot be used with", () => {
  interface TokenizerJson extends Config {
    readonly model: Config & { readonly vocab: Config };
    readonly added_tokens: readonly { readonly id: number }[];
  }
  const json = readJson<TokenizerJson>(join(DATA, "bert", "tokenizer.json"));
  const directory = (changes: Record<string, unknown>, config?: unknown): Directory =>
    memoryDirectory("t", {
      "tokenizer.json": jsonBytes({ ...json, ...changes }),
      ...(config === undefined ? {} : { "tokenizer_config.json": jsonBytes(config) }),
    });
  const model = (changes: Record<string, unknown>) => ({ model: { ...json.model, ...changes } });

  test("an unknown word where the vocabulary has no [UNK], and the error names word and text", async () => {
    const { "[UNK]": _, ...vocab } = json.model.vocab;
    const changes = {
      ...model({ vocab }),
      added_tokens: json.added_tokens.filter(({ id }) => id !== 1),
    };
    const tokenizer = await loadTokenizer(directory(changes));
    expect(tokenizer.encode("never").ids.length).toBe(3);
    const error = await failure(() => tokenizer.encode("never 你"), DataError);
    expect(error.message).toMatch(/no id for "\[UNK\]" in "never 你"/);
  });

  test.each<[string, Directory, RegExp]>([
    [
      "no tokenizer.json",
      memoryDirectory("t", { "vocab.txt": new Uint8Array(1) }),
      /no file tokenizer.json in t.\n.*vocab.txt/,
    ],
    ["no model", directory({ model: undefined }), /tokenizer.json in t: .*model/],
    ["no vocabulary", directory(model({ vocab: undefined })), /model.vocab|no vocabulary/],
    ["an empty vocabulary", directory({ ...model({ vocab: {} }), added_tokens: [] }), /empty vocabulary/],
    ["an id that is text", directory(model({ vocab: { a: "length" } })), /the id of "a"/],
    ["a negative id", directory(model({ vocab: { a: -1 } })), /the id of "a"/],
    ["an id of 2^31", directory(model({ vocab: { a: 2 ** 31 } })), /the id of "a"/],
    [
      "a list that is not a list of pairs",
      directory(model({ type: "Unigram", vocab: [["a", 0], "b"] })),
      /entry 1 of the vocab/,
    ],
    ["an unknown model", directory(model({ type: "Magic" })), /the model Magic is not supported/],
    ["an unknown normalizer", directory({ normalizer: { type: "Magic" } }), /the normalizer Magic is not supported/],
    [
      "an unknown step within a sequence",
      directory({ pre_tokenizer: { type: "Sequence", pretokenizers: [{ type: "UnicodeScripts" }] } }),
      /the pre-tokenizer UnicodeScripts is not supported/,
    ],
    ["an unknown decoder", directory({ decoder: { type: "Magic" } }), /the decoder Magic is not supported/],
    ["an unknown post-processor", directory({ post_processor: {} }), /the post-processor without a type is not supp/],
    ["an unknown behavior", directory({ pre_tokenizer: { type: "Punctuation", behavior: "Odd" } }), /behavior Odd/],
    ["an unknown scheme", directory({ pre_tokenizer: { type: "Metaspace", prepend_scheme: "x" } }), /prepend_scheme x/],
    ["an option of another type", directory({ normalizer: { type: "Prepend", prepend: 3 } }), /prepend of Prepend/],
    ["random merges", directory({ model: { type: "BPE", vocab: { a: 0 }, merges: [], dropout: 0.1 } }), /dropout/],
    [
      "a merge of a missing token",
      directory({ model: { type: "BPE", vocab: { a: 0 }, merges: ["a b"] } }),
      /merge 1.*"b"/,
    ],
    ["a damaged table", directory({ normalizer: { type: "Precompiled", precompiled_charsmap: "////" } }), /damaged/],
    [
      "a special token that is not in the vocabulary",
      directory({ post_processor: { type: "BertProcessing", sep: ["[SEP]", 900], cls: ["[CLS]", 2] } }),
      /adds the id 900/,
    ],
    [
      "a template of an unknown special token",
      directory({ post_processor: { type: "TemplateProcessing", single: [{ SpecialToken: { id: "x" } }], pair: [] } }),
      /adds "x", which is not among its special_tokens/,
    ],
    ["an added token without an id", directory({ added_tokens: [{ content: "x" }] }), /added_tokens.0.id/],
    [
      "a step of length 0, which would never end",
      directory({ pre_tokenizer: { type: "Sequence", pretokenizers: [{ type: "FixedLength", length: 0 }] } }),
      /FixedLength/,
    ],
    ["a configuration that is not an object", directory({}, [1]), /tokenizer_config.json in t contains an array/],
    ["a special token that is a number", directory({}, { pad_token: 3 }), /pad_token/],
  ])("%s", async (_, files, message) => {
    expect((await failure(loadTokenizer(files), FileFormatError)).message).toMatch(message);
  });
});
