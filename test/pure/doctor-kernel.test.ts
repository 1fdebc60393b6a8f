import { readdirSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { doctorCommand } from "../../src/cli/doctor/command";
import { allKernels, withEntry } from "../../src/cli/doctor/kernel";
import { UsageError } from "../../src/cli/options";
import { withoutComments } from "../../src/gpu/compose";
import { withConstants } from "../../src/gpu/wgsl";

async function printed(constants: readonly string[], options: Readonly<Record<string, string>>): Promise<string> {
  const lines: string[] = [];
  await doctorCommand(constants, options, (line) => void lines.push(line));
  return lines.join("\n");
}

const entriesOf = (code: string): string[] =>
  [...withoutComments(code).matchAll(/@compute[^{]*?fn (\w+)/g)].map(([, name = ""]) => name);

describe("safetape doctor --kernel", () => {
  it("knows every kernel of the folder", () => {
    const files = readdirSync("kernels").filter((name) => name.endsWith(".wgsl"));
    expect([...allKernels().keys()].sort()).toEqual(files.map((name) => name.replace(".wgsl", "")).sort());
  });

  it("prints what is compiled: parts in place of imports, and constants as they are given", async () => {
    const kernel = allKernels().get("layer_norm")!;
    expect(kernel.code).toMatch(/^#import /m);
    const text = await printed([], { kernel: "layer_norm" });
    expect(text).not.toMatch(/^#import /m);
    expect(`${text}\n`).toBe(withConstants(kernel, {}));
    const product = await printed(["TILE_M=3", "FORMAT=2"], { kernel: "product" });
    expect(`${product}\n`).toBe(withConstants(allKernels().get("product")!, { TILE_M: 3, FORMAT: 2 }));
  });

  it.each([...allKernels()])("leaves out all entries of %s but one", (_name, kernel) => {
    const complete = withConstants(kernel, {});
    const entries = entriesOf(complete);
    expect(entries.length).toBeGreaterThan(0);
    for (const entry of entries) {
      const text = withEntry(kernel, complete, entry);
      expect(entriesOf(text)).toEqual([entry]);
      const [opened, closed] = [text.split("{").length, text.split("}").length];
      expect(opened, "braces").toBe(closed);
    }
  });

  it.each([
    ["an unknown kernel", [], { kernel: "prodct" }, /no kernel prodct\.\nThe nearest are product/],
    [
      "an unknown entry",
      [],
      { kernel: "product", entry: "plane" },
      /no entry of product plane\.\nThe nearest are plain/,
    ],
    [
      "an unknown constant",
      ["TILE=3"],
      { kernel: "product" },
      /no constant of product TILE\.\nThe nearest are TILE_[MN]/,
    ],
    ["no number", ["TILE_M=few"], { kernel: "product" }, /TILE_M=few sets no constant/],
    ["a constant without a kernel", ["TILE_M=3"], {}, /TILE_M=3 is no option/],
  ])("refuses %s", async (_what, constants, options, message) => {
    await expect(printed(constants, { ...options })).rejects.toThrow(message);
    await expect(printed(constants, { ...options })).rejects.toBeInstanceOf(UsageError);
  });
});
