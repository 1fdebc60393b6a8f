// Writes to docs/ the JSON Schemas of the lines of `safetape train --json` and of run.json.
import { mkdir, writeFile } from "node:fs/promises";
import { schemaFiles } from "./schema-files";

await mkdir("docs", { recursive: true });
for (const { file, text } of schemaFiles()) {
  await writeFile(file, text);
  console.log(file);
}
