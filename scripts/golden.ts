// Runs golden cases by the adapter's kernels or a GPU's, and writes their results if there is an OUT. With --half-products, products
// of any number of FLOPs run in 16 bits where they can, and errors have no limits.
import { mkdir, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { parseArgs } from "node:util";
import { createEngine, openDirectory } from "../src/node/index";
import { writeSafetensors } from "../src/io/safetensors-write";
import { nodeGpu } from "../src/node/gpu";
import { engineWithGpuKernels, engineWithHalfProducts } from "./gpu-kernels";
import { runGolden } from "./golden-case";
import type { GoldenRun } from "./golden-case";
import { GOLDEN_LIMITS } from "./golden-file";
import type { GoldenErrors } from "./golden-file";
import { provenance } from "./provenance.mjs";

const USAGE = "Usage: npm run golden -- DIR... [--kernels gpu] [--half-products] [--out OUT]";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    out: { type: "string" },
    kernels: { type: "string" },
    "half-products": { type: "boolean", default: false },
  },
});

async function write(run: GoldenRun, folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  const tensors = [...run.tensors].map(([name, tensor]) => ({ name, ...tensor }));
  await writeSafetensors(await openDirectory(folder), "actual.safetensors", tensors);
  const { losses, cka, errors } = run;
  await writeFile(join(folder, "actual.json"), `${JSON.stringify({ losses, cka, errors }, null, 1)}\n`);
}

const isHalf = values["half-products"];
const isKnown = values.kernels === undefined || values.kernels === "gpu";
if (positionals.length === 0 || !isKnown) {
  console.error(`${isKnown ? "No case is given." : `There are no kernels "${values.kernels}".`}\n${USAGE}`);
  process.exitCode = 2;
} else {
  const gpu = await nodeGpu();
  using engine = values.kernels
    ? await engineWithGpuKernels(gpu)
    : isHalf
      ? await engineWithHalfProducts(gpu)
      : await createEngine();
  console.log(`on ${engine.info.description || engine.info.device}`);
  const results: Record<string, GoldenErrors> = {};
  for (const path of positionals) {
    try {
      const run = await runGolden(engine, await openDirectory(path));
      results[run.name] = run.errors;
      if (values.out) await write(run, join(values.out, basename(path)));
      // `Object.keys` has the type string[], since an object may have more keys than its type.
      const keys = Object.keys(GOLDEN_LIMITS) as (keyof GoldenErrors)[];
      const passed = isHalf || keys.every((key) => run.errors[key] <= GOLDEN_LIMITS[key]);
      const figures = keys.map((key) => `${key} ${run.errors[key].toExponential(1)}`).join("  ");
      console.log(`${passed ? "ok  " : "FAIL"} ${run.name.padEnd(20)} ${figures}`);
      if (!passed) process.exitCode = 1;
    } catch (error) {
      console.error(`FAIL ${basename(path)}: ${error instanceof Error ? error.message : String(error)}`);
      process.exitCode = 1;
    }
  }
  if (values.out) {
    const kernels = values.kernels ?? (isHalf ? "products in 16 bits" : "usual");
    const limits = isHalf ? {} : { limits: GOLDEN_LIMITS };
    const contents = { ...provenance(engine.info), kernels, ...limits, results };
    await writeFile(join(values.out, "golden.json"), `${JSON.stringify(contents, null, 1)}\n`);
  }
}
