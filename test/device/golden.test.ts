import { readdirSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { runGolden } from "../../scripts/golden-case";
import { GOLDEN_LIMITS } from "../../scripts/golden-file";
import type { GoldenErrors } from "../../scripts/golden-file";
import { openDirectory } from "../../src/node/directory";
import { useEngine } from "../support/engine";

const FAMILIES = "test/golden-families";
const CASES = [
  ...readdirSync("test/golden").map((name) => `test/golden/${name}`),
  // Of the others one of each family and DoRA, on the adapter that compiles sooner; npm run golden has all.
  ...(process.env["SAFETAPE_ADAPTER"] === "swiftshader" ? [] : readdirSync(FAMILIES)).flatMap((name) =>
    /-left$|^deberta-v3-lora$|^qwen2-dora$|^swin/.test(name) ? [`${FAMILIES}/${name}`] : [],
  ),
];

const engine = await useEngine();

describe("golden runs of float64 PyTorch", () => {
  it.each(CASES)("are reproduced: %s", async (name) => {
    const { errors } = await runGolden(engine, await openDirectory(name));
    // Object.keys forgets the type of the keys.
    for (const key of Object.keys(GOLDEN_LIMITS) as (keyof GoldenErrors)[]) {
      expect(errors[key], `relative error of ${key} in ${name}`).toBeLessThanOrEqual(GOLDEN_LIMITS[key]);
    }
  });
});
