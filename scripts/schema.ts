// Writes the JSON Schemas of what `safetape train` prints (--json) and saves (run.json) into docs/.
import { mkdir, writeFile } from "node:fs/promises";
import { schemaFiles } from "./schema-files";

await mkdir("docs", { recursive: true });
for (const { file, text } of schemaFiles()) {
  await writeFile(file, text);
  console.log(file);
}
