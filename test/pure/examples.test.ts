import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { loadTokenizer } from "../../src/data/tokenizer";
import { openDirectory } from "../../src/node/directory";
import { useFolder } from "../support/folder";

interface Row {
  readonly words: readonly string[];
  readonly label: number;
}

const DOMAINS = ["source", "sentiment"];

function rowsOf(domain: string, split: string): Row[] {
  const lines = readFileSync(`examples/data/${domain}/${split}.tsv`, "utf8").trim().split("\n").slice(1);
  return lines.map((line) => {
    const [text = "", label] = line.split("\t");
    return { words: text.split(" "), label: Number(label) };
  });
}

/** Accuracy on `dev` of naive Bayes over single words, smoothed by one. */
function bagOfWords(train: readonly Row[], dev: readonly Row[]): number {
  const counts = [new Map<string, number>(), new Map<string, number>()];
  const totals = [0, 0];
  for (const { words, label } of train) {
    for (const word of words) counts[label]!.set(word, (counts[label]!.get(word) ?? 0) + 1);
    totals[label]! += words.length;
  }
  const size = new Set([...counts[0]!.keys(), ...counts[1]!.keys()]).size;
  const score = (words: readonly string[], label: number): number =>
    words.reduce((sum, word) => sum + Math.log(((counts[label]!.get(word) ?? 0) + 1) / (totals[label]! + size)), 0);
  const right = dev.filter(({ words, label }) => Number(score(words, 1) > score(words, 0)) === label);
  return right.length / dev.length;
}

describe("the examples", () => {
  const path = useFolder();

  it("are written byte for byte by make-data.mjs", () => {
    execFileSync(process.execPath, ["examples/make-data.mjs", path()]);
    const names = DOMAINS.flatMap((domain) => [`data/${domain}/train.tsv`, `data/${domain}/dev.tsv`]);
    for (const name of [...names, "model/tokenizer.json", "model/tokenizer_config.json", "model/vocab.txt"]) {
      expect(readFileSync(path(name)).equals(readFileSync(`examples/${name}`)), name).toBe(true);
    }
  });

  it.each(DOMAINS)("of %s cannot be solved by a bag of words", (domain) => {
    expect(bagOfWords(rowsOf(domain, "train"), rowsOf(domain, "dev")), "accuracy of naive Bayes").toBeLessThan(0.72);
  });

  it.each(DOMAINS)("of %s have no sentence in both splits, and both labels equally often", (domain) => {
    const seen = new Set(rowsOf(domain, "train").map(({ words }) => words.join(" ")));
    const dev = rowsOf(domain, "dev");
    expect(dev.filter(({ words }) => seen.has(words.join(" ")))).toEqual([]);
    const positive = dev.filter(({ label }) => label === 1).length / dev.length;
    expect(Math.abs(positive - 0.5), "share of positive sentences, from a half").toBeLessThan(0.08);
  });

  it("have a tokenizer that knows every word", async () => {
    const tokenizer = await loadTokenizer(await openDirectory("examples/model"));
    const unknown = 1;
    for (const { words } of DOMAINS.flatMap((domain) => rowsOf(domain, "dev"))) {
      const { ids } = tokenizer.encode(words.join(" "), undefined, { maxLength: 64 });
      expect(ids.includes(unknown), words.join(" ")).toBe(false);
    }
  });
});
