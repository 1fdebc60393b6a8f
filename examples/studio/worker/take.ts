// What a run leaves: adapter, merged model, GGUF, report, record, and programs that repeat it.
import { Zip, ZipPassThrough } from "fflate";
import { ConfigError } from "../../../src/base/errors";
import { exportGgufAdapter } from "../../../src/gguf/adapter";
import { jsonBytes } from "../../../src/io/json";
import { reportHtml } from "../../../src/report/html";
import { saveAdapter, saveMerged } from "../../../src/train/files";
import type { PlanForm, Take } from "../protocol";
import type { StudioData } from "./data";
import { BlobDirectory } from "./directories";
import { repeatFiles } from "./repeat";
import type { Run } from "./run";

/** A zip without its 64-bit form ends here. */
const MOST_ZIP_BYTES = 2 ** 32 - 2 ** 24;

/** The file that the user asked for. @throws what saving or exporting throws. */
export async function taken(what: Take, run: Run, data: StudioData, form: PlanForm): Promise<File> {
  const { trainer, loaded } = run;
  if (what === "report") return new File([reportHtml(run.record())], "report.html", { type: "text/html" });
  // A SharedArrayBuffer is nowhere in this program, which the compiler cannot know.
  if (what === "record") return new File([jsonBytes(run.record()) as Uint8Array<ArrayBuffer>], "run.json");
  if (what === "merged") {
    const directory = new BlobDirectory("the merged model");
    await saveMerged(directory, trainer);
    return zipOf("merged.zip", directory);
  }
  const directory = new BlobDirectory("the adapter");
  await saveAdapter(directory, trainer, {
    card: { results: [{ dataset: data.facts.trainFile, metrics: run.facts.after }] },
  });
  if (what === "adapter") {
    await directory.write("run.json", jsonBytes(run.record()));
    await directory.write("report.html", new TextEncoder().encode(reportHtml(run.record())));
    return zipOf("adapter.zip", directory);
  }
  if (what === "gguf") {
    const out = new BlobDirectory("the exported file");
    await exportGgufAdapter(directory, { model: loaded.directory!, directory: out });
    return new File([out.files.get("adapter.gguf")!], "adapter.gguf");
  }
  return zipOf("repeat.zip", new BlobDirectory("the programs", repeatFiles(directory, data, form)));
}

/** A directory's files as one zip, not compressed: weights do not get smaller. @throws ConfigError for more than a zip may have. */
export async function zipOf(name: string, { files }: BlobDirectory): Promise<File> {
  const total = [...files.values()].reduce((sum, { size }) => sum + size, 0);
  if (total > MOST_ZIP_BYTES) {
    throw new ConfigError(
      `The files have ${(total / 1e9).toFixed(1)} GB, more than a zip.`,
      "Take the adapter, and merge it by: safetape merge adapter --into MODEL --out merged",
    );
  }
  const parts: Blob[] = [];
  const failures: Error[] = [];
  const zip = new Zip((error, chunk) => {
    if (error) failures.push(error);
    parts.push(new Blob([chunk]));
  });
  for (const [file, blob] of files) {
    const entry = new ZipPassThrough(file);
    zip.add(entry);
    const reader = blob.stream().getReader();
    for (let next = await reader.read(); !next.done; next = await reader.read()) entry.push(next.value);
    entry.push(new Uint8Array(), true);
  }
  zip.end();
  if (failures[0]) throw failures[0];
  return new File(parts, name, { type: "application/zip" });
}
