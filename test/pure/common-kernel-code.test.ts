import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

const kernels = readdirSync("kernels").map((file) => {
  return { name: file.replace(".wgsl", ""), code: readFileSync(join("kernels", file), "utf8") };
});

/** A function or a struct as it stands in some kernels: its text, and the kernels' names. */
function definitions(what: string, family = /./): Map<string, string[]> {
  const pattern = new RegExp(`^${what}\\b.*?^\\}`, "ms");
  const found = new Map<string, string[]>();
  for (const { name, code } of kernels.filter((kernel) => family.test(kernel.name))) {
    const text = pattern.exec(code)?.[0];
    if (text !== undefined) found.set(text, [...(found.get(text) ?? []), name]);
  }
  return found;
}

/** Kernels are whole files, so what several need stands in each of them: in the same words. */
describe("what kernels have in common is the same everywhere:", () => {
  const common = ["fn first_element", "fn logistic", "fn row_index", "fn text_seed", "fn multiply", "fn dropped_row"];
  it.each([...common, "struct DroppedRow", "fn chunk_column", "fn store_gradient"])("%s", (what) => {
    const found = definitions(what);
    expect([...found.values()].flat().length, "kernels that have it").toBeGreaterThan(1);
    expect([...found.values()], "groups of kernels whose texts differ").toHaveLength(1);
  });

  it.each([
    ["struct Params", /^product(?!_mean)/, 5],
    ["struct Params", /^attention/, 2],
    ["struct Params", /_norm$/, 2],
    ["fn random_bits", /^product/, 5],
    ["fn steps_of_a", /^product/, 2],
    ["fn text_hash", /^attention/, 2],
    ["fn mask_factor", /^attention/, 2],
  ])("%s of %s", (what, family, count) => {
    const found = [...definitions(what, family).values()];
    expect(found, "groups of kernels whose texts differ").toHaveLength(1);
    expect(found.flat()).toHaveLength(count);
  });
});
