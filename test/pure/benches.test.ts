import { readdirSync, readFileSync } from "node:fs";
import { afterEach, describe, expect, test } from "vitest";
import { isProgram } from "../../bench/support/main";
import { bundlePath } from "../../scripts/bundle-program.mjs";

/** Benches that another bench may import: each calls `main` with the name by which it knows that it is the program. */
const benches = readdirSync("bench")
  .filter((file) => file.endsWith(".ts"))
  .flatMap((file) => {
    const [, name] = /\bmain\("([^"]+)"/.exec(readFileSync(`bench/${file}`, "utf8")) ?? [];
    return name === undefined ? [] : [{ file, name }];
  });

describe("a bench runs where it is the program", () => {
  const [node, program] = process.argv;
  afterEach(() => void (process.argv = [node!, program!]));

  test("there are benches", () => expect(benches.map(({ name }) => name)).toContain("figure"));

  test.each(benches)("$file", ({ file, name }) => {
    process.argv = [node!, bundlePath(`bench/${file}`)];
    expect(isProgram(name)).toBe(true);
    process.argv = [node!, bundlePath("bench/all.ts")];
    expect(isProgram(name)).toBe(name === "all");
  });
});
