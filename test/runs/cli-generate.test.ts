import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createEngine, initialiseModel, openDirectory, saveModel } from "safetape";
import { runCli } from "../support/cli";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "safetape-generate-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** A small GPT-2 with a tokenizer, for 64 tokens. */
async function smallGpt2(): Promise<string> {
  const model = join(folder, "gpt2");
  using engine = await createEngine();
  const sizes = { vocab_size: 340, n_positions: 64, n_embd: 16, n_layer: 2, n_head: 2 };
  using loaded = await initialiseModel(engine, { model_type: "gpt2", ...sizes });
  await saveModel(await openDirectory(model, { create: true }), loaded);
  for (const file of ["tokenizer.json", "tokenizer_config.json"]) {
    writeFileSync(join(model, file), readFileSync(`test/interop-data/tokenizers/gpt2/${file}`));
  }
  return model;
}

describe("safetape generate", () => {
  const CSV = `mr,ref\n"film[dull]","the film is dull"\n"film[dull]","a dull film"\n"film[good]","the film is good"\n`;

  it("learns to write E2E's texts, scores them, and writes and scores them again from the saved adapter", async () => {
    const model = await smallGpt2();
    for (const file of ["trainset.csv", "devset.csv"]) writeFileSync(join(folder, file), CSV);
    const out = join(folder, "out");
    const search = ["--beams", "3", "--length-penalty", "0.8", "--unique-ngram", "4", "--max-new-tokens", "8"];
    const data = ["--task", "e2e", "--data", folder, "--max-length", "48", "--epochs", "2", "--batch", "2"];
    const trained = await runCli(["train", "--model", model, ...data, "--generate", ...search, "--out", out, "--json"]);
    expect(trained.code, trained.stderr).toBe(0);
    const { metrics } = JSON.parse(trained.stdout.trim().split("\n").at(-1)!) as { metrics: Record<string, number> };
    expect(Object.keys(metrics).slice(0, 6)).toEqual([
      "bleu",
      "nist",
      "meteorVariant",
      "rougeL",
      "cider",
      "perplexity",
    ]);
    const texts = join(folder, "texts");
    const args = ["--adapter", out, "--e2e", join(folder, "devset.csv"), "--out", texts, ...search, "--json"];
    const written = await runCli(["generate", "--model", model, ...args]);
    expect(written.code, written.stderr).toBe(0);
    const { scores } = JSON.parse(written.stdout) as { scores: Record<string, number> };
    for (const [name, value] of Object.entries(scores)) expect(value, name).toBeCloseTo(metrics[name] ?? NaN, 6);
    expect(readFileSync(join(texts, "system.txt"), "utf8").trimEnd().split("\n")).toHaveLength(2);
    expect(readFileSync(join(texts, "references.txt"), "utf8")).toBe(
      "the film is dull\na dull film\n\nthe film is good\n",
    );
  });

  it("continues a prompt, and each line of a file", async () => {
    const model = await smallGpt2();
    const one = await runCli(["generate", "--model", model, "--prompt", "the film", "--max-new-tokens", "4"]);
    expect(one.code, one.stderr).toBe(0);
    expect(one.stdout.startsWith("the film")).toBe(true);
    const file = join(folder, "prompts.txt");
    writeFileSync(file, "the film\n\nnever\n");
    const more = await runCli(["generate", "--model", model, "--prompts", file, "--max-new-tokens", "4", "--json"]);
    const told = more.stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { prompt: string; text: string });
    expect(told.map(({ prompt }) => prompt)).toEqual(["the film", "never"]);
    expect(`the film${told[0]?.text}`).toBe(one.stdout.replace(/\n$/, ""));
  });

  it.each<[string, string[], RegExp]>([
    ["no prompt", [], /--prompt is missing/],
    ["a file that is not there", ["--prompts", "nothing.txt"], /No file nothing.txt/],
    ["half a beam", ["--prompt", "a", "--beams", "0.5"], /--beams is 0.5/],
  ])("refuses %s", async (_, args, fact) => {
    const { code, stderr } = await runCli(["generate", "--model", await smallGpt2(), ...args]);
    expect(code).toBeGreaterThan(0);
    expect(stderr).toMatch(fact);
  });
});
