import { ConfigError, FileFormatError, ShapeError } from "../base/errors";
import { Random } from "../base/random";
import { formatShape } from "../base/shape";
import { adapterMetadata, keptSamples } from "../io/base-samples";
import type { Directory, NewFile } from "../io/directory";
import { directoryAt } from "../io/directory-like";
import type { DirectoryLike } from "../io/directory-like";
import { checkStoredInit, isPartOfWeights } from "../io/lora-base";
import { cardFiles, checkedBaseModel, publishedBase } from "../io/model-card";
import type { ModelCard } from "../io/model-card";
import { readAdapterDirectory, writeAdapterDirectory } from "../io/peft";
import type { PeftConfig } from "../io/peft";
import { headKey, stripPrefix, unwrappedKeys } from "../io/peft-keys";
import { parseLoraConfig, scaleOf } from "../io/peft-lora";
import type { LoraConfig } from "../io/peft-lora";
import type { FloatTensor } from "../io/safetensors";
import type { Task } from "../model/model";
import { loraName } from "./lora";
import { withUpdate } from "./low-rank";
import { TASK_TYPES } from "./targets";
import { mergedTasks } from "./task-vectors";
import type { TaskMethod, TaskOptions } from "./task-vectors";

const TASK_METHODS: readonly TaskMethod[] = ["linear", "ties", "dare_linear", "dare_ties", "magnitude_prune"];

/** PEFT's names of `combination_type`. */
export const MERGE_METHODS = [
  "svd",
  "linear",
  "cat",
  "ties",
  "ties_svd",
  "dare_linear",
  "dare_ties",
  "dare_linear_svd",
  "dare_ties_svd",
  "magnitude_prune",
  "magnitude_prune_svd",
] as const;

export type MergeMethod = (typeof MERGE_METHODS)[number];

/** An adapter among those that are merged. */
export interface WeightedAdapter {
  readonly adapter: DirectoryLike;
  /** Factor of what it changes; negative ones take it away. Default 1. */
  readonly weight?: number;
}

export interface MergeAdaptersOptions {
  /**
   * How changes become one (default "svd"). Those in "svd" merge scale * B A of every module, and take the best approximation of the sum of
   * a rank; the others merge A and B each, which is no sum of the changes; "cat" puts them side by side, which is.
   */
  readonly method?: MergeMethod;
  /** Rank of the result of a method in "svd". Default the largest one of the adapters. */
  readonly rank?: number;
  /** Share of elements that TIES, DARE and magnitude_prune keep. */
  readonly density?: number;
  /** What decides the sign of an element in TIES: the sum of the values, or of their signs. Default "total". */
  readonly majoritySign?: "total" | "frequency";
  /** Seed of DARE's masks, which are this library's own. Default 0. */
  readonly seed?: number;
  /** What the model card beside the result says, as `saveAdapter`'s; false writes none. Default: the base model's ID where the adapters agree. */
  readonly card?: ModelCard | false;
}

/** A LoRA as its files have it. */
interface Source {
  readonly name: string;
  readonly weight: number;
  readonly config: PeftConfig;
  readonly lora: LoraConfig;
  /** What tells its base model from others, where its files have it. */
  readonly base: string | undefined;
  /** A [r, in] and B [out, r] by module. */
  readonly factors: ReadonlyMap<string, { readonly a: FloatTensor; readonly b: FloatTensor }>;
}

/** A module's update in one of the adapters. */
interface Part {
  readonly source: Source;
  readonly a: FloatTensor;
  readonly b: FloatTensor;
  /** alpha / rank, or alpha / sqrt(rank). */
  readonly scale: number;
  /** The adapter's weight times the scale. */
  readonly factor: number;
}

/**
 * Merges LoRA adapters of one base model into one, by the formulas of PEFT's `add_weighted_adapter`, and writes it as a PEFT directory, whose scale
 * is 1. The base model is not read. Random masks of DARE follow from `seed` and are not torch's.
 * @returns the number of modules, the rank, and the base models that the adapters name: of several, only shapes were compared.
 * @throws ConfigError for a `card.baseModel` that is not an ID of the Hub, other kinds than LoRA, DoRA, PiSSA and OLoRA on a changed base, biases and saved modules, unequal ranks in a method
 * that takes equal ones, and options that make no sense; ShapeError for modules of different shapes; FileFormatError for damaged
 * files. Nothing is then written.
 */
export async function mergeAdapters(
  adapters: readonly WeightedAdapter[],
  out: DirectoryLike,
  options: MergeAdaptersOptions = {},
): Promise<{ readonly modules: number; readonly rank: number; readonly baseModels: readonly string[] }> {
  const sources: Source[] = [];
  for (const { adapter, weight = 1 } of adapters) sources.push(await sourceAt(adapter, weight));
  const [first] = sources;
  if (!first) throw new ConfigError("There are no adapters to merge.", "Name at least one.");
  // As in PEFT, one adapter has nothing to be merged with.
  const method = sources.length === 1 ? "linear" : (options.method ?? "svd");
  const task = taskOptions(method, options);
  const modules = [...new Set(sources.flatMap(({ factors }) => [...factors.keys()]))];
  const largest = Math.max(...sources.flatMap(({ lora }) => [lora.r, ...Object.values(lora.rank_pattern)]));
  const merged = new Map<string, { readonly a: FloatTensor; readonly b: FloatTensor }>();
  for (const module of modules) {
    const parts = sources.flatMap((source): Part[] => {
      const factors = source.factors.get(module);
      const scale = scaleOf(source.lora, module);
      return factors ? [{ source, ...factors, scale, factor: source.weight * scale }] : [];
    });
    checkParts(module, parts, method);
    merged.set(module, await mergedModule(parts, method, task, options.rank ?? largest));
  }
  // Every module has the largest rank, with zeros where its own is smaller: one scale is then that of all.
  const rank = Math.max(...[...merged.values()].map(({ a }) => a.shape[0]!));
  const tensors = [...merged].flatMap(([module, factors]) => {
    const { a, b } = padded(factors, rank);
    return [
      { name: headKey(loraName(module, "A")), ...a },
      { name: headKey(loraName(module, "B")), ...b },
    ];
  });
  const config = {
    ...first.config,
    r: rank,
    lora_alpha: rank,
    rank_pattern: {},
    alpha_pattern: {},
    use_rslora: false,
    init_lora_weights: true,
    inference_mode: true,
    ...targetsOf(sources, modules),
  };
  const baseModels = [...new Set(sources.flatMap(({ lora }) => lora.base_model_name_or_path ?? []))];
  const written = await directoryAt(out, { create: true });
  const card = await cardBeside(written, sources, method, options.card ?? {});
  const [base, ...otherBases] = new Set(sources.map((source) => source.base));
  const metadata = adapterMetadata(otherBases.length > 0 ? undefined : base);
  await writeAdapterDirectory(written, config, tensors, card, metadata);
  return { modules: modules.length, rank, baseModels };
}

/** The result's model card. Names of directories stay here. */
async function cardBeside(
  out: Directory,
  sources: readonly Source[],
  method: MergeMethod,
  card: ModelCard | false,
): Promise<NewFile[]> {
  if (card === false) return [];
  const [base, ...others] = new Set(sources.map(({ lora }) => lora.base_model_name_or_path));
  const common = others.length > 0 ? undefined : base;
  const baseModel =
    card.baseModel === undefined ? common && (await publishedBase(common)) : checkedBaseModel(card.baseModel);
  const weights = sources.map(({ weight }) => weight).join(", ");
  const text = `Merged of ${sources.length} LoRA adapters by the method \`${method}\`, with the weights ${weights}.`;
  // The keys are tasks.
  const tasks = Object.keys(TASK_TYPES) as Task[];
  const task = tasks.find((each) => TASK_TYPES[each] === sources[0]!.lora.task_type);
  const subject = { made: "merged", peftType: "LORA", task, baseModel: baseModel ?? undefined } as const;
  return cardFiles(out, subject, { ...card, text: card.text === undefined ? text : `${text}\n\n${card.text}` });
}

/** @throws ConfigError for an adapter that is no plain LoRA, FileFormatError for a damaged one. */
async function sourceAt(place: DirectoryLike, weight: number): Promise<Source> {
  const directory = await directoryAt(place);
  const { name } = directory;
  if (!Number.isFinite(weight)) throw new ConfigError(`The weight of ${name} is ${weight}.`, "Give a finite number.");
  const { config, tensors } = await readAdapterDirectory(directory);
  const refuse = (what: string): never => {
    throw new ConfigError(
      `The adapter in ${name} ${what}.`,
      "Plain LoRAs are merged: leave it out, or merge each into the model.",
    );
  };
  if (config.peft_type !== "LORA") refuse(`is of kind ${config.peft_type}`);
  const lora = parseLoraConfig(config, name);
  if (lora.use_dora) refuse("is a DoRA, whose lengths have no weighted sum");
  const { init_lora_weights: init } = lora;
  checkStoredInit(init, name);
  if (isPartOfWeights(init)) {
    refuse(`has init_lora_weights ${JSON.stringify(init)}, so that its base is another one (save it with as: "lora")`);
  }
  if (lora.bias !== "none") refuse(`trains biases (bias: ${lora.bias}), which PEFT leaves out`);
  const factors = new Map<string, { a?: FloatTensor; b?: FloatTensor }>();
  for (const [key, tensor] of unwrappedKeys(tensors)) {
    const [, module, part] = /^(.+)\.lora_([AB])\.weight$/.exec(stripPrefix(key)) ?? [];
    if (module === undefined) {
      refuse(`has ${stripPrefix(key)}: saved modules (modules_to_save) and tables are not merged, as in PEFT`);
    } else factors.set(module, { ...factors.get(module), [part === "A" ? "a" : "b"]: tensor });
  }
  const complete = [...factors].map(([module, { a, b }]) => {
    if (a && b && a.shape.length === 2 && b.shape.length === 2 && a.shape[0] === b.shape[1])
      return [module, { a, b }] as const;
    throw new FileFormatError(
      `The adapter in ${name} has for ${module} lora_A ${a ? formatShape(a.shape) : "missing"} and lora_B ${b ? formatShape(b.shape) : "missing"}.`,
      "Save the adapter again.",
    );
  });
  if (complete.length === 0) throw new FileFormatError(`The adapter in ${name} has no LoRA.`, "Save it again.");
  return { name, weight, config, lora, base: await keptSamples(directory), factors: new Map(complete) };
}

/** @throws ShapeError where a module has other sizes, ConfigError where it has other ranks and the method takes equal ones. */
function checkParts(module: string, parts: readonly Part[], method: MergeMethod): void {
  const first = parts[0]!;
  for (const { source, a, b } of parts) {
    if (a.shape[1] !== first.a.shape[1] || b.shape[0] !== first.b.shape[0]) {
      throw new ShapeError(
        `${module} is a weight [${b.shape[0]}, ${a.shape[1]}] in ${source.name}, and [${first.b.shape[0]}, ${first.a.shape[1]}] in ${first.source.name}.`,
        "Merge adapters of one base model.",
      );
    }
    if (method === "cat" || method.endsWith("svd") || a.shape[0] === first.a.shape[0]) continue;
    throw new ConfigError(
      `${module} has rank ${a.shape[0]} in ${source.name} and ${first.a.shape[0]} in ${first.source.name}, which ${method} does not merge.`,
      `Take the method svd, cat, or ${method === "linear" ? "svd" : `${method}_svd`}.`,
    );
  }
}

/** @throws ConfigError for a method that is not known, or an option that it lacks or does not take. */
function taskOptions(method: MergeMethod, options: MergeAdaptersOptions): TaskOptions {
  const { density, majoritySign = "total", rank, seed = 0 } = options;
  if (!MERGE_METHODS.includes(method)) {
    throw new ConfigError(`There is no method ${method} of merging.`, `Methods are ${MERGE_METHODS.join(", ")}.`);
  }
  if (rank !== undefined && !(Number.isInteger(rank) && rank >= 1 && method.endsWith("svd"))) {
    throw new ConfigError(
      `The rank is ${rank}, of a result by ${method}.`,
      "Give a whole number from 1 with a method in svd; that of the others follows from the adapters.",
    );
  }
  const name = TASK_METHODS.find((each) => method === each || method === `${each}_svd`) ?? "linear";
  const least = name.startsWith("dare") ? Number.MIN_VALUE : 0;
  if (name !== "linear" && !(density !== undefined && density >= least && density <= 1)) {
    throw new ConfigError(
      `${method} keeps a share of elements, and the density is ${density ?? "not given"}.`,
      "Give a number from 0 to 1, for DARE above 0.",
    );
  }
  if (!["total", "frequency"].includes(majoritySign)) {
    throw new ConfigError(`The majority's sign is that of ${majoritySign}.`, "Give total or frequency.");
  }
  const random = new Random(seed, 11);
  return { method: name, density: density ?? 1, majoritySign, draw: () => random.uniform() };
}

async function mergedModule(
  parts: readonly Part[],
  method: MergeMethod,
  task: TaskOptions,
  rank: number,
): Promise<{ readonly a: FloatTensor; readonly b: FloatTensor }> {
  const { a, b } = parts[0]!;
  const [inSize, out] = [a.shape[1]!, b.shape[0]!];
  if (method === "cat") return sideBySide(parts);
  if (!method.endsWith("svd")) {
    // The sign goes to one side, since that of both would cancel.
    const roots = parts.map(({ factor }) => Math.sqrt(Math.abs(factor)));
    const signed = roots.map((root, i) => (parts[i]!.factor < 0 ? -root : root));
    return {
      a: {
        shape: a.shape,
        data: mergedTasks(
          parts.map((part) => part.a.data),
          signed,
          task,
        ),
      },
      b: {
        shape: b.shape,
        data: mergedTasks(
          parts.map((part) => part.b.data),
          roots,
          task,
        ),
      },
    };
  }
  const zero = { shape: [out, inSize], data: new Float32Array(out * inSize) };
  const deltas = parts.map((part) => withUpdate(zero, part, false).data);
  const data = mergedTasks(
    deltas,
    parts.map(({ source }) => source.weight),
    task,
  );
  const { largestSingular } = await import("../base/singular");
  const count = Math.min(rank, out, inSize);
  const { values, left, right } = await largestSingular({ rows: out, columns: inSize, data }, count);
  const rows = Float32Array.from({ length: count * inSize }, (_, i) => right[Math.floor(i / inSize)]![i % inSize]!);
  const columns = Float32Array.from({ length: out * count }, (_, i) => {
    return values[i % count]! * left[i % count]![Math.floor(i / count)]!;
  });
  return { a: { shape: [count, inSize], data: rows }, b: { shape: [out, count], data: columns } };
}

/** Factors one below the other, and side by side. */
function sideBySide(parts: readonly Part[]): { readonly a: FloatTensor; readonly b: FloatTensor } {
  const { a, b } = parts[0]!;
  const [inSize, out] = [a.shape[1]!, b.shape[0]!];
  const rank = parts.reduce((sum, part) => sum + part.a.shape[0]!, 0);
  const rows = Float32Array.from(parts.flatMap((part) => Array.from(part.a.data, (value) => value * part.factor)));
  const columns = new Float32Array(out * rank);
  let start = 0;
  for (const { b: each } of parts) {
    const width = each.shape[1]!;
    each.data.forEach((value, i) => (columns[Math.floor(i / width) * rank + start + (i % width)] = value));
    start += width;
  }
  return { a: { shape: [rank, inSize], data: rows }, b: { shape: [out, rank], data: columns } };
}

/** The same product in a rank that may be larger. */
function padded(factors: { readonly a: FloatTensor; readonly b: FloatTensor }, rank: number): typeof factors {
  const { a, b } = factors;
  const [own, inSize] = [a.shape[0]!, a.shape[1]!];
  if (own === rank) return factors;
  const rows = new Float32Array(rank * inSize);
  rows.set(a.data);
  const columns = new Float32Array(b.shape[0]! * rank);
  b.data.forEach((value, i) => (columns[Math.floor(i / own) * rank + (i % own)] = value));
  return { a: { shape: [rank, inSize], data: rows }, b: { shape: [b.shape[0]!, rank], data: columns } };
}

/** Targets of the result: those of all adapters where they have the same, else the modules themselves. */
function targetsOf(sources: readonly Source[], modules: readonly string[]): Partial<LoraConfig> {
  const keyOf = ({ lora }: Source): string => {
    const {
      target_modules: targets,
      exclude_modules: excluded,
      layers_to_transform: layers,
      layers_pattern: pattern,
    } = lora;
    return JSON.stringify([Array.isArray(targets) ? [...targets].sort() : targets, excluded, layers, pattern]);
  };
  if (new Set(sources.map(keyOf)).size === 1) return {};
  return { target_modules: [...modules], exclude_modules: null, layers_to_transform: null, layers_pattern: null };
}
