import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { fitBudget, lora, MemoryBudgetError, plan } from "safetape";
import { runCli } from "../support/cli";

const configOf = (name: string): Record<string, unknown> =>
  JSON.parse(readFileSync(`bench/configs/${name}.json`, "utf8")) as Record<string, unknown>;
const BERT = { config: configOf("bert-large"), adapter: lora({ rank: 4 }), batch: 32, length: 128 };

describe("fitting into a budget", () => {
  it.each([
    [8e9, { weights: "f32", activations: "f32", microBatch: 32 }, 0],
    [4.5e9, { weights: "f32", activations: "f32", microBatch: 32 }, 1],
    [2e9, { weights: "f32", activations: "f32", microBatch: 16 }, 1],
    [1e9, { weights: "f16", activations: "f32" }, 1],
  ])("of %f bytes, BERT-large's step changes as little as it must", (bytes, wanted, recomputes) => {
    const { prediction, ...choice } = fitBudget(BERT, bytes);
    expect(choice).toMatchObject(wanted);
    expect(Math.min(1, prediction.recomputed.length)).toBe(recomputes);
    expect(prediction.peakBytes).toBeLessThanOrEqual(bytes);
  });

  it("gives LLaMA-2 7B a way onto a card of 8 GB", () => {
    const request = { config: configOf("llama-2-7b"), adapter: lora({ rank: 4 }), batch: 2, length: 512 };
    const { weights, prediction } = fitBudget(request, "8GB");
    expect(["int8", "nf4"]).toContain(weights);
    expect(prediction.peakBytes).toBeLessThan(8e9);
  });

  it("names the smallest budget that would do, and that one does", () => {
    let needed = 0;
    try {
      fitBudget(BERT, 1e8);
    } catch (error) {
      expect(error).toBeInstanceOf(MemoryBudgetError);
      needed = (error as MemoryBudgetError).neededBytes;
    }
    expect(needed).toBeGreaterThan(1e8);
    expect(fitBudget(BERT, needed)).toMatchObject({ weights: "nf4", microBatch: 1 });
    expect(() => fitBudget(BERT, 0.99 * needed)).toThrow(/this run needs/);
    expect(() => fitBudget(BERT, 0)).toThrow(/budget is 0\./);
  });

  it("splits a batch that does not halve", () => {
    expect(fitBudget({ ...BERT, batch: 31 }, 8e9).microBatch).toBe(31);
    expect(fitBudget({ ...BERT, batch: 31 }, 2e9).microBatch).toBe(16);
  });

  it("is what safetape plan --budget prints", async () => {
    const args = [
      "plan",
      "--config",
      "bench/configs/bert-large.json",
      "--batch",
      "32",
      "--length",
      "128",
      "--rank",
      "4",
    ];
    const { code, stdout, stderr } = await runCli([...args, "--budget", "2GB", "--json"]);
    expect(code, stderr).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ weights: "f32", microBatch: 16 });
    const told = await runCli([...args, "--budget", "100MB"]);
    expect(told.code).toBe(1);
    expect(told.stderr).toMatch(/this run needs \d+ bytes; the budget is 100000000/);
  });

  it("is off where nothing is run again", () => {
    expect(plan({ ...BERT, recompute: "none" }).recomputed).toEqual([]);
  });
});
