import { readdirSync, readFileSync } from "node:fs";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { itLong } from "../support/long";

const EXAMPLES = "examples/engine";
let printed: string[] = [];
const { argv } = process;

beforeEach(() => {
  printed = [];
  vi.spyOn(console, "log").mockImplementation((line: string) => void printed.push(line));
});
afterEach(() => {
  vi.restoreAllMocks();
  process.argv = argv;
});

it("have fewer than 60 lines each, comments and empty lines among them", () => {
  for (const name of readdirSync(EXAMPLES)) {
    const lines = readFileSync(`${EXAMPLES}/${name}`, "utf8").trimEnd().split("\n");
    expect(lines.length, name).toBeLessThan(60);
  }
});

it("spirals.mjs tells its spirals apart and draws them", async () => {
  await import("../../examples/engine/spirals.mjs");
  const [, loss] = /step 300: loss ([\d.]+)/.exec(printed.join("\n")) ?? [];
  expect(Number(loss)).toBeLessThan(0.05);
  const picture = printed.slice(-28);
  expect(picture.every((row) => /^[#·]{56}$/.test(row))).toBe(true);
  const marked = picture.join("").replaceAll("·", "").length / (28 * 56);
  expect(marked, "share of the second spiral").toBeGreaterThan(0.2);
  expect(marked, "share of the second spiral").toBeLessThan(0.8);
});

itLong("char-gpt.mjs learns from a text and writes 200 characters", async () => {
  process.argv = [...argv.slice(0, 2), "examples/data/sentiment/train.tsv", "40"];
  await import("../../examples/engine/char-gpt.mjs");
  const [, last] = /step 40: loss ([\d.]+)/.exec(printed.join("\n")) ?? [];
  // A uniform guess over the text's characters has a loss above 3.
  expect(Number(last)).toBeLessThan(2.6);
  expect(printed.at(-1)).toHaveLength(200);
});

it("lora.mjs learns through adapters, half of which then freeze and return bytes", async () => {
  process.argv = [...argv.slice(0, 2), "40"];
  await import("../../examples/engine/lora.mjs");
  const text = printed.join("\n");
  const losses = [...text.matchAll(/loss ([\d.]+), (\d+) bytes, (\d+) kept/g)].map((match) =>
    match.slice(1).map(Number),
  );
  expect(losses).toHaveLength(4);
  // There are four, as has been checked.
  const [, [, , keptBefore], , [lossAfter, bytesAfter, keptAfter]] = losses as [number[], number[], number[], number[]];
  expect(lossAfter).toBeLessThan(Math.log(2));
  expect(keptAfter!).toBeLessThan(keptBefore!);
  const [, returned] = /frozen: (\d+) bytes returned/.exec(text) ?? [];
  expect(Number(returned)).toBeGreaterThan(0);
  expect(bytesAfter!).toBe(losses[1]![1]! - Number(returned));
});

it("own-op.mjs checks its op and times it", async () => {
  await import("../../examples/engine/own-op.mjs");
  expect(printed[0]).toBe("forward and gradient agree with float64");
  expect(printed.slice(1).map((line) => line.replace(/: .*/, ""))).toEqual([
    "several workgroups, forward",
    "several workgroups, forward + backward",
  ]);
});

itLong("freezing-rule.mjs compares a rule with SAFE on the same run", async () => {
  process.argv = [...argv.slice(0, 2), "8"];
  await import("../../examples/engine/freezing-rule.mjs");
  expect(printed.map((line) => line.replace(/:.*/, ""))).toEqual(["never", "safe", "settled"]);
  const kept = printed.map((line) => Number(/([\d.]+) MB/.exec(line)?.[1]));
  expect(printed[2]).toMatch(/frozen: \d/);
  expect(kept[2]).toBeLessThan(kept[0]!);
});
