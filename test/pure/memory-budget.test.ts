import { describe, expect, it } from "vitest";
import { fitMemoryBudget, lora, plan } from "safetape";
import { MemoryBudgetError } from "safetape/engine";
import { runCli } from "../support/cli";
import { failure } from "../support/failure";
import { readJson } from "../support/json";
import type { Config } from "../support/tiny";

const configOf = (name: string) => readJson<Config>(`bench/configs/${name}.json`);
const BERT = { config: configOf("bert-large"), adapter: lora({ rank: 4 }), batch: 32, length: 128 };
/** What is refused is refused after every way of fitting it, which takes a second for each layer. */
const SHALLOW = { ...BERT, config: { ...BERT.config, num_hidden_layers: 4 }, batch: 8 };

describe("fitting into a memory budget", () => {
  it.each([
    [8e9, { weights: "f32", memory: { activations: "f32", microBatch: 32 } }, 0],
    [4.5e9, { weights: "f32", memory: { activations: "f32", microBatch: 32 } }, 1],
    [2e9, { weights: "f32", memory: { activations: "f32", microBatch: 16 } }, 1],
    [1e9, { weights: "f16", memory: { activations: "f32" } }, 1],
  ])("of %f bytes changes as little of a step of BERT-large as necessary", (bytes, expected, recomputes) => {
    const { prediction, ...choice } = fitMemoryBudget(BERT, bytes);
    expect(choice).toMatchObject(expected);
    expect(Math.min(1, prediction.recomputed.length)).toBe(recomputes);
    expect(prediction.peakBytes).toBeLessThanOrEqual(bytes);
  });

  it("of 8 GB is possible for LLaMA-2 7B", () => {
    const request = { config: configOf("llama-2-7b"), adapter: lora({ rank: 4 }), batch: 2, length: 512 };
    const { weights, prediction } = fitMemoryBudget(request, "8GB");
    expect(["int8", "nf4"]).toContain(weights);
    expect(prediction.peakBytes).toBeLessThan(8e9);
  });

  it("that is too small names the smallest one that is accepted, and that one is", async () => {
    const { neededBytes: needed } = await failure(() => fitMemoryBudget(SHALLOW, 3e7), MemoryBudgetError);
    expect(needed).toBeGreaterThan(3e7);
    expect(fitMemoryBudget(SHALLOW, needed)).toMatchObject({ weights: "nf4", memory: { microBatch: 1 } });
    expect(() => fitMemoryBudget(SHALLOW, 0.99 * needed)).toThrow(/this run needs/);
    expect(() => fitMemoryBudget(SHALLOW, 0)).toThrow(/budget is 0\./);
  });

  it("splits batches of an odd number of rows", () => {
    expect(fitMemoryBudget({ ...BERT, batch: 31 }, 8e9).memory.microBatch).toBe(31);
    expect(fitMemoryBudget({ ...BERT, batch: 31 }, 2e9).memory.microBatch).toBe(16);
  });

  it("is printed by safetape plan --memory-budget", async () => {
    const args = ["plan", "--config", "bench/configs/bert-large.json", "--rank", "4"];
    const size = ["--batch", "32", "--length", "128"];
    const { code, stdout, stderr } = await runCli([...args, ...size, "--memory-budget", "2GB", "--json"]);
    expect(code, stderr).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ weights: "f32", microBatch: 16 });
    const refused = await runCli([...args, "--batch", "1", "--length", "16", "--memory-budget", "100MB"]);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/this run needs \d+ bytes; the budget is 100000000/);
  });

  it('recomputes nothing under recompute: "none"', () => {
    expect(plan({ ...BERT, memory: { recompute: "none" } }).recomputed).toEqual([]);
  });
});
