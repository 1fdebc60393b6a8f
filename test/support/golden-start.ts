import { join } from "node:path";
import { openDirectory } from "safetape";
import { goldenAdapter } from "../../scripts/golden-case";
import { readCase, readStart } from "../../scripts/golden-file";
import { adapterFile } from "../../src/adapter/file";
import { readConfig } from "../../src/io/checkpoint";
import { writeAdapterDirectory } from "../../src/io/peft";
import { createModel } from "../../src/model/families";

/** Writes the initial tensors of a golden case as an adapter directory, from which the page `published` loads them. */
export async function writeGoldenStart(name: string, files: string): Promise<void> {
  const directory = await openDirectory(`test/golden/${name}`);
  const goldenCase = await readCase(directory);
  if (goldenCase.full) return;
  const file = adapterFile(
    await goldenAdapter(goldenCase),
    createModel(await readConfig(directory)),
    await readStart(directory),
  );
  const target = await openDirectory(join(files, "adapters", name), { create: true });
  await writeAdapterDirectory(
    target,
    file.config,
    [...file.tensors].map(([key, tensor]) => ({ name: key, ...tensor })),
  );
}
