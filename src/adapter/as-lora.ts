import { ConfigError } from "../base/errors";
import type { PeftConfig } from "../io/peft";
import { loraConfig } from "../io/peft-lora";
import type { Model } from "../model/model";
import type { Adapter, AdapterFile, Tensors } from "./adapter";
import { adapterFile } from "./file";
import { loraFromConfig, loraName } from "./lora";

/**
 * PEFT's two files of the plain LoRA that computes the same as an adapter of low-rank updates. The scale is multiplied into
 * B, so that alpha equals the rank of each module.
 * @param transformers version of transformers whose module names the files use. Default 5.
 * @throws ConfigError for an adapter that is not a sum of low-rank updates.
 */
export function asLora(adapter: Adapter, model: Model, tensors: Tensors, transformers: 4 | 5 = 5): AdapterFile {
  if (adapter.bias) {
    throw new ConfigError(
      `${adapter.kind} adds biases to projections without one, which are no low-rank updates.`,
      "Save it as its own kind, or the merged model with saveMerged.",
    );
  }
  if (adapter.kind === "lora") {
    const portable: Adapter = {
      ...adapter,
      ...(adapter.portableFile && { toFile: (of, values) => adapter.portableFile!(of, values) }),
    };
    return adapterFile(portable, model, tensors, transformers);
  }
  const updates = adapter.updates?.(model, tensors);
  if (!updates) {
    throw new ConfigError(`${adapter.kind} is not a sum of low-rank updates.`, "Save it as its own kind.");
  }
  const ranks = Object.fromEntries([...updates].map(([name, { a }]) => [name, a.shape[0] ?? 1]));
  const [firstRank = 1] = Object.values(ranks);
  const otherRanks = Object.fromEntries(Object.entries(ranks).filter(([, rank]) => rank !== firstRank));
  const config = loraConfig({
    r: firstRank,
    lora_alpha: firstRank,
    rank_pattern: otherRanks,
    alpha_pattern: otherRanks,
    target_modules: [...updates.keys()],
    modules_to_save: savedModules(adapter.peftConfig(model)),
  });
  const saved = loraFromConfig(config);
  const kept = new Set(saved.baseTensors?.(model));
  const isKept = (name: string): boolean =>
    kept.has(name) || (saved.tie?.(model) === "own" && name === `${model.tiedOutput?.module}.weight`);
  const plainTensors = new Map([...tensors].filter(([name]) => isKept(name)));
  for (const [name, { a, b, scale }] of updates) {
    plainTensors.set(loraName(name, "A"), a);
    plainTensors.set(loraName(name, "B"), { shape: b.shape, data: b.data.map((value) => value * scale) });
  }
  return adapterFile(saved, model, plainTensors, transformers);
}

const savedModules = ({ modules_to_save: modules }: PeftConfig): string[] =>
  Array.isArray(modules) ? modules.map(String) : [];
