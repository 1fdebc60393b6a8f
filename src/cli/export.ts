import { basename, dirname } from "node:path";
import { exportGgufAdapter } from "../gguf/adapter";
import { exportGgufModel } from "../gguf/model";
import { openDirectory } from "../node/index";
import { openAdapter } from "./base-model";
import { checkFile } from "./earlier-results";
import { EXPORT } from "./flags";
import { readOptions, UsageError } from "./options";
import type { Print, RawOptions } from "./options";

/** `safetape export`: a model or an adapter as a file for llama.cpp. */
export async function exportCommand(raw: RawOptions, print: Print): Promise<void> {
  const { gguf, model, adapter, format, out, overwrite } = readOptions(EXPORT, raw);
  if (!gguf) throw new UsageError("No format was chosen.", "Give --gguf.");
  const path = out ?? (adapter === undefined ? "model.gguf" : "adapter.gguf");
  if (!overwrite) await checkFile(path);
  const to = { directory: await openDirectory(dirname(path)), file: basename(path) };
  if (adapter === undefined) {
    const tensors = await exportGgufModel(model, { ...to, ...(format && { format }) });
    print(`${tensors} tensors in ${path}`);
    return;
  }
  if (format === "q8_0") throw new UsageError("Adapters are written in f32 or f16.", "Leave out --format q8_0.");
  const modules = await exportGgufAdapter(await openAdapter(adapter, model), {
    ...to,
    model,
    ...(format && { format }),
  });
  print(`LoRA of ${modules} modules in ${path}`);
}
