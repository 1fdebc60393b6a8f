import { writeFileSync } from "node:fs";
import { expect, it } from "vitest";
import { readBenchResult } from "../../src/cli/bench/result";
import { casesOfShapes } from "../../src/cli/bench/command";
import { shippedOp, subjectOps } from "../../src/cli/bench/subject";
import { UsageError } from "../../src/cli/options";
import { failure } from "../support/failure";
import { useFolder } from "../support/folder";

const path = useFolder();

it("shapes become a case with attributes and data of the op's own case", () => {
  const cases = casesOfShapes(shippedOp("linear"), "x=5x16,w=4x16;x=2x3,w=7x3");
  expect(cases).toMatchObject([
    { name: "x=5x16,w=4x16", inputs: { x: { shape: [5, 16] }, w: { shape: [4, 16] } } },
    { name: "x=2x3,w=7x3", inputs: { x: { shape: [2, 3] }, w: { shape: [7, 3] } } },
  ]);
  expect(cases[0]?.attributes).toEqual({ layout: "out_in" });
});

it.each([
  ["linear", "x=5", /The shapes have none for w of linear/],
  ["linear", "x=5x0,w=4x16", /The shapes have x=5x0\./],
  ["linear", "x=5x16,w=4x16,bais=4", /linear has no input bais\.\nIts inputs are x, w, bias \(optional\)/],
  ["linear", "x=5x16", /The shapes have none for w of linear/],
  ["linear", "x=5x16,w=4x17", /The shapes x=5x16,w=4x17 do not fit: /],
  ["linear", "x=5x16,x=5x16", /give x twice/],
])("shapes for %s that do not fit are refused: %s", async (name, text, message) => {
  const { message: said, fact, remedy } = await failure(() => casesOfShapes(shippedOp(name), text), UsageError);
  expect(said).toMatch(message);
  expect([fact.split("\n").length, remedy.split("\n").length]).toEqual([1, 1]);
});

it("an unknown op is refused with the nearest names", () => {
  expect(() => shippedOp("liner")).toThrow(/There is no op liner\.\nThe nearest are linear/);
});

it("a module that throws, that is not there, and one without an op are refused", async () => {
  const write = (name: string, code: string): string => {
    writeFileSync(path(name), code);
    return path(name);
  };
  await expect(subjectOps(write("throws.mjs", 'throw new Error("no luck");'))).rejects.toThrow(
    /cannot be loaded: no luck/,
  );
  await expect(subjectOps(path("missing.mjs"))).rejects.toThrow(/missing\.mjs cannot be loaded/);
  await expect(subjectOps(write("empty.mjs", "export const name = 3;"))).rejects.toThrow(/empty\.mjs exports no op\./);
});

it("a file that is no result of a bench is refused", async () => {
  const file = path("other.json");
  writeFileSync(file, '{ "timings": 3 }');
  await expect(readBenchResult(file)).rejects.toThrow(UsageError);
  await expect(readBenchResult(file)).rejects.toThrow(/holds no result of a bench/);
  await expect(readBenchResult(path("missing.json"))).rejects.toThrow(/cannot be read/);
});
