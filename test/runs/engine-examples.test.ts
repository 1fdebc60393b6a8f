import { readdirSync, readFileSync } from "node:fs";
import { afterEach, beforeEach, expect, it, vi } from "vitest";

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

it("have fewer than 60 lines of code each", () => {
  for (const name of readdirSync(EXAMPLES)) {
    const lines = readFileSync(`${EXAMPLES}/${name}`, "utf8").split("\n");
    expect(lines.filter((line) => !/^\s*(?:\/\/.*)?$/.test(line)).length, name).toBeLessThan(60);
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

it("char-gpt.mjs learns from a text and writes 200 characters", async () => {
  process.argv = [...argv.slice(0, 2), "examples/data/sentiment/train.tsv", "60"];
  await import("../../examples/engine/char-gpt.mjs");
  const [, first, last] = /step 50: loss ([\d.]+)\nstep 60: loss ([\d.]+)/.exec(printed.join("\n")) ?? [];
  // A uniform guess over the text's characters has a loss above 3.
  expect(Number(last)).toBeLessThan(2.6);
  expect(Number(last)).toBeLessThan(Number(first) + 0.2);
  expect(printed.at(-1)).toHaveLength(200);
});
