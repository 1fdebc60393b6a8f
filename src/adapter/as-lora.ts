import { ConfigError } from "../base/errors";
import { loraConfig } from "../io/peft-lora";
import type { Model } from "../model/model";
import type { Adapter, AdapterFile, Tensors } from "./adapter";
import { adapterFile } from "./file";
import { loraFromConfig, loraName } from "./lora";

/**
 * Any adapter of low-rank updates as the plain LoRA that computes the same, in PEFT's files: its scale goes into B, so
 * that alpha equals the rank of each module.
 * @throws ConfigError for an adapter that is something else.
 */
export function asLora(adapter: Adapter, model: Model, tensors: Tensors, transformers: 4 | 5 = 5): AdapterFile {
  if (adapter.kind === "lora") return adapterFile(adapter, model, tensors, transformers);
  const updates = adapter.updates?.(model, tensors);
  if (!updates) {
    throw new ConfigError(`${adapter.kind} is no sum of low-rank updates.`, "Save it as its own kind.");
  }
  const ranks = Object.fromEntries([...updates].map(([name, { a }]) => [name, a.shape[0] ?? 1]));
  const [first = 1] = Object.values(ranks);
  const differs = Object.fromEntries(Object.entries(ranks).filter(([, rank]) => rank !== first));
  const isHead = (name: string): boolean => model.heads.some((head) => name.startsWith(`${head}.`));
  const config = loraConfig({
    r: first,
    lora_alpha: first,
    rank_pattern: differs,
    alpha_pattern: differs,
    target_modules: [...updates.keys()],
    modules_to_save: [...model.heads],
  });
  const plain = loraFromConfig(config);
  const file = new Map([...tensors].filter(([name]) => isHead(name)));
  for (const [name, { a, b, scale }] of updates) {
    file.set(loraName(name, "A"), a);
    file.set(loraName(name, "B"), { shape: b.shape, data: b.data.map((value) => value * scale) });
  }
  return adapterFile(plain, model, file, transformers);
}
