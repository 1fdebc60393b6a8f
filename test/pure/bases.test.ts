import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { promisify } from "node:util";
import { afterEach, describe, expect, it } from "vitest";
import { loadTokenizer, maskingOf, memoryDirectory } from "safetape/data";
import type { Tokenizer } from "safetape/data";
import { readData } from "../../examples/bases/data.mjs";
import { blocksOf, idsOf, written } from "../../examples/bases/texts.mjs";
import { byteLevel, learnMerges, wordPiece } from "../../examples/bases/vocabulary.mjs";
import { failure } from "../support/failure";
import { readJson } from "../support/json";
import { useFolder } from "../support/folder";

const path = useFolder();
const TEXTS = Array.from({ length: 60 }, (_, i) => `The newest low-cost film, ${i} times lower: caf\u00e9s' widest`);

async function tokenizerOf(files: object): Promise<Tokenizer> {
  const directory = memoryDirectory("tokenizer");
  await written(directory, files);
  return loadTokenizer(directory);
}

describe("vocabularies of the bases", () => {
  it("merge the most frequent pairs first, by the example of Sennrich et al. (2016)", () => {
    const words = Object.entries({ low: 5, lower: 2, newest: 6, widest: 3 });
    const spelt = words.map(([word, times]): [string[], number] => [[...word, "."], times]);
    const joined = (a: string, b: string): string => a + b;
    const merges = learnMerges(spelt, 10, joined).map(([a, b]: readonly string[]) => `${a}${b}`);
    // Pairs of equal frequency are in the order of their letters.
    expect(merges.slice(0, 5)).toEqual(["es", "est", "est.", "lo", "low"]);
    expect(new Set(merges).size).toBe(merges.length);
    // A word that occurs once is not merged.
    expect(learnMerges([[["a", "b"], 1]], 5, joined)).toEqual([]);
  });

  it("of WordPiece are read as BERT's, with all roles", async () => {
    const tokenizer = await tokenizerOf(wordPiece(TEXTS, 120));
    const { ids } = tokenizer.encode("The lowest caf\u00e9");
    expect(tokenizer.decode(ids)).toBe("the lowest cafe");
    expect(tokenizer.idOf("##est")).toBeGreaterThan(4);
    expect(maskingOf(tokenizer)).toEqual({
      maskId: 4,
      specialIds: [0, 2, 3, 4],
      vocabularySize: tokenizer.vocabularySize,
    });
    expect([ids[0], ids.at(-1)]).toEqual([2, 3]);
    expect([...tokenizer.encode("\u6771", undefined, { specialTokens: false }).ids], "an unknown letter").toEqual([1]);
  });

  it("of bytes are read as GPT-2's, and spell every text", async () => {
    const tokenizer = await tokenizerOf(byteLevel(TEXTS, 300));
    const text = "The newest \u6771 film,\n  lower";
    const ids = idsOf(tokenizer, [text]);
    expect(tokenizer.decode(ids)).toBe(text);
    expect(tokenizer.vocabularySize).toBeLessThanOrEqual(300);
    expect(ids.length).toBeLessThan(new TextEncoder().encode(text).length);
    expect(blocksOf(ids, 4).map(({ length }: Int32Array) => length)).toEqual(Array(Math.floor(ids.length / 4)).fill(4));
  });
});

it.each(["vit", "gpt2"])("the base that ships has the weights that its record names: %s", (kind) => {
  const folder = `examples/bases/${kind}`;
  const record = readJson<{ readonly weights: string; readonly smoke: boolean }>(`${folder}/base.json`);
  const sum = createHash("sha256")
    .update(readFileSync(`${folder}/model.safetensors`))
    .digest("hex");
  expect([record.weights, record.smoke]).toEqual([sum, false]);
});

describe("a study on real data", () => {
  const study = async (...args: string[]): Promise<string> => {
    const env = { ...process.env, FASHION_MNIST: path("nowhere") };
    const run = promisify(execFile)(process.execPath, ["examples/studies/run.mjs", ...args], { env });
    return (await failure(run, Error)).message;
  };

  it("says which file of the data is missing, and which studies there are, before it writes anything", async () => {
    expect(await study("images", "--out", path("out"))).toMatch(
      /nowhere.*cannot be read \(ENOENT\)\.\nInstall Debian's/,
    );
    expect(existsSync(path("out"))).toBe(false);
    expect(await study("sounds")).toMatch(/There is no study "sounds"\.\nThe studies are images, glue, generation\./);
  });
});

describe("data of the bases", () => {
  afterEach(() => delete process.env["SAFETAPE_DATA"]);

  it("are refused by name where a file is missing or of another version", async () => {
    process.env["SAFETAPE_DATA"] = path();
    const file = "glue/CoLA/train.tsv";
    const missing = await failure(readData("texts", [file]), Error);
    expect(missing.message).toMatch(/CoLA\/train\.tsv cannot be read \(ENOENT\)\.\n.*SAFETAPE_DATA/);
    mkdirSync(path("glue/CoLA"), { recursive: true });
    writeFileSync(path(file), "gj04\t1\t\tAnother sentence.\n");
    expect((await failure(readData("texts", [file]), Error)).message).toMatch(
      /is another version: its SHA-256 is \w{64}, not/,
    );
  });
});
