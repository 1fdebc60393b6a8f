import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

const files = readdirSync("kernels").filter((file) => file.endsWith(".wgsl"));
const kernels = files.map((file) => {
  return { name: file.replace(".wgsl", ""), code: readFileSync(join("kernels", file), "utf8") };
});

/** The texts that kernels have for a function or a struct, and the kernels that have each text. */
function definitions(declaration: string, family = /./): Map<string, string[]> {
  const pattern = new RegExp(`^${declaration}\\b.*?^\\}`, "ms");
  const kernelsByText = new Map<string, string[]>();
  for (const { name, code } of kernels.filter((kernel) => family.test(kernel.name))) {
    const text = pattern.exec(code)?.[0];
    if (text !== undefined) kernelsByText.set(text, [...(kernelsByText.get(text) ?? []), name]);
  }
  return kernelsByText;
}

/** What is not yet a part of kernels/lib is repeated in each of the kernels that need it. */
describe("kernels have the same text for", () => {
  const common = ["fn multiply", "fn dropped_row"];
  it.each([...common, "struct DroppedRow"])("%s", (declaration) => {
    const groups = [...definitions(declaration).values()];
    expect(groups.flat().length, "kernels that have it").toBeGreaterThan(1);
    expect(groups, "groups of kernels whose texts differ").toHaveLength(1);
  });

  it.each([
    ["struct Params", /^product(?!_mean)/, 5],
    ["fn steps_of_a", /^product/, 2],
  ])("%s of %s", (declaration, family, count) => {
    const groups = [...definitions(declaration, family).values()];
    expect(groups, "groups of kernels whose texts differ").toHaveLength(1);
    expect(groups.flat()).toHaveLength(count);
  });
});
