import { afterAll, expect, it } from "vitest";
import { runGolden } from "../../scripts/golden-case";
import { engineWithGpuKernels } from "../../scripts/gpu-kernels";
import { GOLDEN_LIMITS } from "../../scripts/golden-file";
import type { GoldenErrors } from "../../scripts/golden-file";
import { openDirectory } from "../../src/node/directory";
import { nodeGpu } from "../../src/node/gpu";

// One run, since tiled kernels take long to compile here; `npm run golden -- test/golden/* --kernels gpu` has all.
const NAME = "llama-lora";

const chosen = new Set<string>();
const engine = await engineWithGpuKernels(await nodeGpu(), (kernel) => chosen.add(kernel));
afterAll(() => engine.dispose());

it(`the kernels that GPUs run reproduce the golden run of float64 PyTorch: ${NAME}`, async () => {
  const { errors } = await runGolden(engine, await openDirectory(`test/golden/${NAME}`));
  // Object.keys forgets the type of the keys.
  for (const key of Object.keys(GOLDEN_LIMITS) as (keyof GoldenErrors)[]) {
    expect(errors[key], `relative error of ${key}`).toBeLessThanOrEqual(GOLDEN_LIMITS[key]);
  }
  expect([...chosen].sort()).toEqual(expect.arrayContaining(["attention_tiled", "product_tiled", "rms_norm"]));
  expect(engine.ledger.liveBytes, "live bytes after the run").toBe(0);
});
