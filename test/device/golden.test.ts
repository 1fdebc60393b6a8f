import { readdirSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { runGolden } from "../../scripts/golden-case";
import { GOLDEN_LIMITS } from "../../scripts/golden-file";
import type { GoldenErrors } from "../../scripts/golden-file";
import { openDirectory } from "../../src/node/directory";
import { useEngine } from "../support/engine";
import { some } from "../support/long";

/** Of the runs of families, one of each and DoRA. */
const OF_FAMILIES = /-left$|^deberta-v3-lora$|^qwen2-dora$|^swin/;
/** On the adapter that takes longer, one of each kind of model and adapter. npm run golden has all runs. */
const FEW = /^(?:bert-(?:aflora|lora-freezing)|flan-t5-lora|gpt2-full|llama-ia3|vit-lora)$/;
const isSlow = process.env["SAFETAPE_ADAPTER"] === "swiftshader";
const casesIn = (folder: string, names: RegExp): string[] =>
  readdirSync(folder).flatMap((name) => (names.test(name) ? [`${folder}/${name}`] : []));
const CASES = isSlow
  ? casesIn("test/golden", FEW)
  : [...casesIn("test/golden", /./), ...casesIn("test/golden-families", OF_FAMILIES)];

const engine = await useEngine();

describe("golden runs of float64 PyTorch", () => {
  it.each(some(CASES, isSlow ? 3 : 2))("are reproduced: %s", async (name) => {
    const { errors } = await runGolden(engine, await openDirectory(name));
    // Object.keys forgets the type of the keys.
    for (const key of Object.keys(GOLDEN_LIMITS) as (keyof GoldenErrors)[]) {
      expect(errors[key], `relative error of ${key} in ${name}`).toBeLessThanOrEqual(GOLDEN_LIMITS[key]);
    }
  });
});
