import type { Adapter, AdapterFile, Tensors } from "../adapter/adapter";
import { asLora } from "../adapter/as-lora";
import { adapterFile, adapterOfFile, isOwnKind } from "../adapter/file";
import { ADAPTER_KINDS, makeAdapter } from "../adapter/make";
import { mergedParameter } from "../adapter/merge";
import { ConfigError } from "../base/errors";
import { Random } from "../base/random";
import { elements } from "../base/shape";
import { exportGgufAdapter } from "../gguf/adapter";
import { memoryDirectory } from "../io/directory";
import { jsonBytes } from "../io/json";
import { writeAdapterDirectory } from "../io/peft";
import { createModel } from "../model/families";
import type { Model } from "../model/model";
import { ifAllowed } from "./blame";
import { ADAPTERS } from "./flags";
import { readOptions } from "./options";
import type { Print, RawOptions } from "./options";

/** What can be done with the files of a kind of adapter. */
export interface AdapterSupport {
  /** Its name in `--adapter`, with which it is trained. */
  readonly kind: string;
  /** `peft_type` of its adapter_config.json; undefined where there is none. */
  readonly peftType: string | undefined;
  /** Whose files of this kind are loaded: PEFT's, or only this library's own. */
  readonly load: "peft" | "own" | "no";
  /** What is saved: files that PEFT loads, as this kind or as a LoRA that computes the same; others; or a complete model. */
  readonly save: "peft" | "lora" | "own" | "model";
  /** Whether it can be merged into the weights. */
  readonly merge: boolean;
  /** What can be written for llama.cpp: the adapter, a LoRA that computes the same, or only the merged model. */
  readonly gguf: "adapter" | "lora" | "merged" | "no";
}

/** A small model that every kind adapts, with biases for BitFit, and of a family that llama.cpp knows. */
const CONFIG = {
  model_type: "qwen2",
  architectures: ["Qwen2ForCausalLM"],
  vocab_size: 8,
  hidden_size: 16,
  intermediate_size: 16,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 1,
};

/** `safetape adapters`: what can be done with every kind of adapter, found out by doing it on a small model. */
export async function adaptersCommand(raw: RawOptions, print: Print): Promise<void> {
  const { json } = readOptions(ADAPTERS, raw);
  const model = createModel(CONFIG);
  const support = await Promise.all(ADAPTER_KINDS.map((kind) => supportOf(kind, model)));
  if (json) {
    print(JSON.stringify(support));
    return;
  }
  const rows = [
    ["adapter", "peft_type", "train", "load", "save", "merge", "GGUF"],
    ...support.map(({ kind, peftType = "-", load, save, merge, gguf }) => {
      return [kind, peftType, "yes", WORDS[load], WORDS[save], merge ? "yes" : "no", WORDS[gguf]];
    }),
  ];
  const width = (column: number): number => Math.max(...rows.map((row) => row[column]!.length));
  for (const row of rows)
    print(
      row
        .map((cell, i) => cell.padEnd(width(i) + 2))
        .join("")
        .trimEnd(),
    );
  print(
    "PEFT: as PEFT's own files; own: files that safetape alone reads; LoRA: saved as a LoRA that computes the same.",
  );
}

const WORDS = {
  peft: "PEFT",
  lora: "LoRA",
  own: "own",
  model: "a model",
  adapter: "yes",
  merged: "merged model",
  no: "no",
} as const;

async function supportOf(kind: string, model: Model): Promise<AdapterSupport> {
  const adapter = makeAdapter({ kind });
  const tensors = startOf(adapter, model);
  const file = adapter.trainsInPlace ? undefined : adapterFile(adapter, model, tensors);
  const lora = await ifAllowed(() => asLora(adapter, model, tensors), ConfigError);
  const merge = (await ifAllowed(() => mergedParameter(adapter, model, tensors), ConfigError)) !== undefined;
  const format = file && (isOwnKind(file.config.peft_type) ? "own" : "peft");
  const loaded = file && (await ifAllowed(() => adapterOfFile(file, model, kind), ConfigError));
  return {
    kind,
    peftType: file?.config.peft_type,
    load: (loaded && format) ?? "no",
    save: format === "own" && lora ? "lora" : (format ?? "model"),
    merge,
    gguf: (await isInGguf(file)) ? "adapter" : (await isInGguf(lora)) ? "lora" : merge ? "merged" : "no",
  };
}

/** Tensors of an adapter that has learnt nothing, with zeros for those of the checkpoint. */
function startOf(adapter: Adapter, model: Model): Tensors {
  const random = new Random(0);
  const trained = new Set(adapter.baseTensors?.(model) ?? []);
  return new Map([
    ...model.parameters
      .filter(({ name }) => trained.has(name))
      .map(({ name, shape }) => [name, { shape, data: new Float32Array(elements(shape)) }] as const),
    ...adapter
      .tensors(model)
      .map((tensor) => [tensor.name, { shape: tensor.shape, data: tensor.initial(random) }] as const),
  ]);
}

async function isInGguf(file: AdapterFile | undefined): Promise<boolean> {
  if (!file) return false;
  const [adapter, base] = [memoryDirectory("adapter"), memoryDirectory("model", { "config.json": jsonBytes(CONFIG) })];
  const tensors = [...file.tensors].map(([name, tensor]) => ({ name, ...tensor }));
  await writeAdapterDirectory(adapter, file.config, tensors);
  const modules = await ifAllowed(
    () => exportGgufAdapter(adapter, { model: base, directory: memoryDirectory("gguf") }),
    ConfigError,
  );
  return modules !== undefined;
}
