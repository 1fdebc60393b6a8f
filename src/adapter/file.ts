import { ConfigError, FileFormatError, ShapeError } from "../base/errors";
import { Random } from "../base/random";
import { formatShape, sameShape } from "../base/shape";
import type { Shape } from "../base/shape";
import { headKey, stripPrefix, unwrappedKeys } from "../io/peft-keys";
import type { PeftConfig } from "../io/peft";
import { isNamed, matchesPattern, shortestSuffixes } from "../io/peft-match";
import type { FloatTensor } from "../io/safetensors";
import { normTensors } from "../model/model";
import type { Model } from "../model/model";
import type { Adapter, AdapterFile, AdapterState, Tensors } from "./adapter";
import { withBaseWeights } from "./base-weights";
import { adapterFromConfig } from "./kinds";
import { maskedProjections, withOutputMasks } from "./masked";
import { tieOf } from "./tied";
import {
  completedSavedModules,
  isHeadOfTask,
  isSavedModule,
  outerModules,
  pathsOf,
  savedModuleTensors,
  unknownTargets,
} from "./targets";

/**
 * An adapter's two files, as PEFT lays them out.
 * @param tensors those of the adapter and of saved modules, by name.
 * @param transformers version of transformers whose module names the files use; ViT's changed in 5. Default 5.
 * @param state of the adapter in the run that the tensors come from, for adapters with a state.
 */
export function adapterFile(
  adapter: Adapter,
  model: Model,
  tensors: Tensors,
  transformers: 4 | 5 = 5,
  state?: AdapterState,
): AdapterFile {
  const keyed = new Map([...tensors].map(([name, tensor]) => [headKey(name), tensor]));
  const written = state?.toFile?.(tensors) ??
    adapter.toFile?.(model, tensors) ?? { config: adapter.peftConfig(model), tensors: keyed };
  const file = { ...written, tensors: withSharedTable(adapter, model, written.tensors) };
  return transformers === 5 && model.renamed ? renamedFile(file, model) : file;
}

/** A file's tensors, with a table that the last projection shares under both names, as PEFT demands. */
function withSharedTable(adapter: Adapter, model: Model, keyed: Tensors): Tensors {
  const { module, table } = model.tiedOutput ?? {};
  const trained = table !== undefined && adapter.tie?.(model) === "shared" ? keyed.get(headKey(table)) : undefined;
  return trained ? new Map([...keyed, [headKey(`${module}.weight`), trained]]) : keyed;
}

/** Modules that adapters act on: projections and norms. */
const adaptedModules = (model: Model): string[] => [
  ...model.projections.map(({ name }) => name),
  ...normTensors(model).map(({ name }) => name.slice(0, name.lastIndexOf("."))),
];

/** Files with the module names of transformers 5. */
function renamedFile({ config, tensors }: AdapterFile, model: Model): AdapterFile {
  const newNames = new Map(adaptedModules(model).map((name) => [name, model.renamed?.(name) ?? name]));
  const renamedList = (key: string): Record<string, string[]> => {
    const { [key]: listed } = config;
    if (!Array.isArray(listed)) return {};
    const isListed = (name: string): boolean => listed.some((end) => `.${name}`.endsWith(`.${String(end)}`));
    const chosen = [...newNames].filter(([name]) => isListed(name)).map(([, newName]) => newName);
    // A list that names no module by its older name has the new ones already.
    return chosen.length === 0 ? {} : { [key]: shortestSuffixes(chosen, [...newNames.values()]) };
  };
  return {
    config: {
      ...withRenamedPatterns(config, newNames),
      ...renamedList("target_modules"),
      ...renamedList("exclude_modules"),
      ...renamedList("feedforward_modules"),
      ...withRenamedSaved(config, newNames),
    },
    tensors: new Map([...tensors].map(([key, tensor]) => [withRenamedModule(key, newNames), tensor])),
  };
}

/** `modules_to_save` with the new names of what it names by older ones. */
function withRenamedSaved({ modules_to_save: saved }: PeftConfig, newNames: ReadonlyMap<string, string>): object {
  if (!Array.isArray(saved)) return {};
  const renamed = saved.flatMap((module: unknown) => {
    const own = [...newNames].filter(([name]) => name.endsWith(String(module)));
    const isOlder = own.length > 0 && own.every(([, newName]) => !newName.endsWith(String(module)));
    return isOlder ? own.map(([, newName]) => newName) : [String(module)];
  });
  return { modules_to_save: renamed };
}

/** Kinds whose patterns of ranks and alphas are expressions for modules. */
const WITH_PATTERNS: readonly string[] = ["LORA", "LOHA", "LOKR"];

/** A configuration with other module names in its patterns of ranks and alphas. */
function withRenamedPatterns(config: PeftConfig, newNames: ReadonlyMap<string, string>): PeftConfig {
  const areExpressions = WITH_PATTERNS.includes(config.peft_type);
  const renamed = ["rank_pattern", "alpha_pattern"].flatMap((key) => {
    const { [key]: pattern } = config;
    if (!pattern || typeof pattern !== "object") return [];
    return [[key, areExpressions ? patternByName(pattern, newNames) : renamedKeys(pattern, newNames)] as const];
  });
  return { ...config, ...Object.fromEntries(renamed) };
}

/** AdaLoRA's kept triplets, by tensors. */
const renamedKeys = (pattern: object, newNames: ReadonlyMap<string, string>): object =>
  Object.fromEntries(Object.entries(pattern).map(([key, value]) => [withRenamedModule(key, newNames), value]));

/** Expressions for modules by the ends of their new names, in the same order, since the first one that matches a module counts. */
function patternByName(pattern: object, newNames: ReadonlyMap<string, string>): object {
  const isMatch = (key: string, name: string): boolean => matchesPattern(key, name, "suffix");
  const renamedKey = (key: string): string => {
    // A name that both versions of transformers have means the same modules.
    const isOld = [...newNames.keys()].some((name) => isMatch(key, name));
    const chosen = isOld ? [...newNames].flatMap(([name, newName]) => (isMatch(key, name) ? [newName] : [])) : [];
    if (chosen.every((name) => isMatch(key, name))) return key;
    return shortestSuffixes(chosen, [...newNames.values()]).join("|");
  };
  return Object.fromEntries(Object.entries(pattern).map(([key, value]) => [renamedKey(key), value]));
}

/** A tensor's name, or a file's key, with another name of its module. */
function withRenamedModule(name: string, newNames: ReadonlyMap<string, string>): string {
  for (const [module, newName] of newNames) {
    if (name.includes(`${module}.`)) return name.replace(module, newName);
  }
  return name;
}

/** The loaded model that an adapter is read for. */
export interface LoadedWeights {
  /** Whether a weight has these values, as far as its format can hold them. */
  isLoaded(name: string, tensor: FloatTensor): Promise<boolean>;
  /** Copies a weight to the host. */
  read(name: string): Promise<FloatTensor>;
}

/**
 * The adapter of two files for a model, and its tensors by the names that they have there.
 * @param where names the files in errors.
 * @param loaded leaves out tensors that the model has already, and makes those that follow from its weights. Default: nothing is loaded.
 * @throws FileFormatError, ShapeError or ConfigError for an unknown kind, wrong values, or files of another model.
 */
export async function adapterOfFile(
  file: AdapterFile,
  model: Model,
  where: string,
  loaded?: LoadedWeights,
): Promise<{ adapter: Adapter; tensors: Tensors }> {
  const canonical = new Map(adaptedModules(model).map((name) => [model.renamed?.(name) ?? name, name]));
  const renamed = model.renamed ? withRenamedPatterns(file.config, canonical) : file.config;
  const keyed = unwrappedKeys(file.tensors);
  const ofConfig = await adapterFromConfig(fittedConfig(renamed, model, keyed, where), where);
  const withoutPrefix = (): Tensors => new Map([...keyed].map(([key, tensor]) => [stripPrefix(key), tensor]));
  const stored = [...(ofConfig.fromFile?.(keyed, model, where) ?? withoutPrefix())];
  const tensors = new Map(
    stored.map(([name, tensor]) => [model.renamed ? withRenamedModule(name, canonical) : name, tensor]),
  );
  const masked = maskedProjections(tensors.keys());
  const own = masked.length > 0 ? withOutputMasks(ofConfig, masked) : ofConfig;
  for (const { name, shape, isFixed, initialFrom: from } of own.tensors(model)) {
    if (!loaded || !isFixed || !from || tensors.has(name)) continue;
    tensors.set(name, { shape, data: await from.values(() => loaded.read(from.weight), new Random(0)) });
  }
  checkComplete(own, model, tensors, where);
  joinTable(own, model, tensors, where);
  const weights = await baseWeights(own, model, tensors, { where, loaded });
  const adapter = weights.length > 0 ? withBaseWeights(own, weights) : own;
  const shapes = shapesOf(adapter, model);
  for (const [name, tensor] of tensors) {
    const shape = shapes.get(name);
    if (!shape) throw unknownTensor(name, model, where);
    if (sameShape(withoutOnes(tensor.shape), withoutOnes(shape))) continue;
    throw new ShapeError(
      `${name} is ${formatShape(tensor.shape)} in ${where}, but ${formatShape(shape)} for this model.`,
      "Load the model that the adapter was trained on, with the same rank and number of labels.",
    );
  }
  return { adapter, tensors };
}

/** Shapes of the tensors that an adapter adds to a model, and of those that it trains. */
function shapesOf(adapter: Adapter, model: Model): Map<string, Shape> {
  const trained = new Set(adapter.baseTensors?.(model) ?? []);
  return new Map(
    [...adapter.tensors(model), ...model.parameters.filter(({ name }) => trained.has(name))].map(
      ({ name, shape }) => [name, shape] as const,
    ),
  );
}

/** Whether a kind is this library's own, whose files have every tensor that is trained. */
export const isOwnKind = (kind: string): boolean => kind.startsWith("SAFETAPE_");

/**
 * A configuration as PEFT applies it to a model: the task's head is saved; names of targets, of patterns and of saved modules that
 * the model does not have are passed over, since lists are often made for several families.
 * @throws FileFormatError for a saved module that the file has and the model does not.
 */
function fittedConfig(config: PeftConfig, model: Model, stored: Tensors, where: string): PeftConfig {
  if (isOwnKind(config.peft_type)) return config;
  const listed = (key: string): string[] | undefined => {
    const { [key]: value } = config;
    return Array.isArray(value) && value.every((name) => typeof name === "string") ? value : undefined;
  };
  const known = (names: readonly string[], unknown: readonly string[]): string[] | undefined =>
    unknown.length === 0 || unknown.length === names.length
      ? undefined
      : names.filter((name) => !unknown.includes(name));
  const lists = ["target_modules", "feedforward_modules"].flatMap((key): [string, string[]][] => {
    const given = listed(key);
    const unknown = config.peft_type === "LN_TUNING" ? withoutModule : unknownTargets;
    const found = given && known(given, unknown(model, given));
    return found ? [[key, found]] : [];
  });
  const completed = completedSavedModules(listed("modules_to_save") ?? null, config["task_type"]);
  const foreign = completed.find(
    (module) => !isSavedModule(model, module) && [...stored.keys()].some((key) => key.includes(`${module}.`)),
  );
  if (foreign !== undefined) {
    throw new FileFormatError(
      `The adapter in ${where} has modules_to_save ${foreign}, which this ${model.family} model does not have.`,
      "Load the model that the adapter was trained on.",
    );
  }
  const saved = completed.filter((module) => isSavedModule(model, module) || isHeadOfTask(module));
  const modules = [...saved, ...storedOutput(config, model, saved, stored)];
  const patterns = ["rank_pattern", "alpha_pattern"].flatMap((key): [string, object][] => {
    const { [key]: pattern } = config;
    if (!WITH_PATTERNS.includes(config.peft_type) || typeof pattern !== "object" || pattern === null) return [];
    const names = model.projections.map(({ name }) => name);
    const entries = Object.entries(pattern).filter(([each]) =>
      names.some((name) => matchesPattern(each, name, "suffix")),
    );
    return [[key, Object.fromEntries(entries)]];
  });
  return {
    ...config,
    ...Object.fromEntries(lists),
    modules_to_save: modules,
    ...Object.fromEntries(patterns),
  };
}

/** The names of a list that no module has, be it a projection, a norm, a table or several of them. */
function withoutModule(model: Model, names: readonly string[]): string[] {
  const modules = model.parameters.flatMap(({ name }) => outerModules(name));
  const paths = [...modules, model.tiedOutput?.module ?? ""].flatMap((module) => pathsOf(model, module));
  return names.filter((name) => !paths.some((path) => isNamed([name], path)));
}

/** @throws FileFormatError for a tensor that the adapter adds, or saves completely, and that the file lacks. */
function checkComplete(adapter: Adapter, model: Model, tensors: Tensors, where: string): void {
  const added = adapter.tensors(model).find(({ name }) => !tensors.has(name));
  if (added) {
    throw new FileFormatError(
      `The adapter in ${where} has no ${added.name}.`,
      "Save it again, or load the model that it was trained on.",
    );
  }
  const { peft_type: kind, modules_to_save: modules } = adapter.peftConfig(model);
  const trained = adapter.baseTensors?.(model) ?? [];
  // A bias that PEFT's `bias` trains and the file lacks is the model's own.
  const saved = new Set(
    isOwnKind(kind) || !Array.isArray(modules) ? trained : savedModuleTensors(model, modules.map(String)),
  );
  const isShared = adapter.tie?.(model) === "shared";
  const { module, table } = model.tiedOutput ?? {};
  const needed = [
    ...trained.filter((name) => saved.has(name) || (isShared && name === table)),
    ...(isShared ? [`${module}.weight`] : []),
  ];
  const missing = needed.find((name) => !tensors.has(name));
  if (missing === undefined) return;
  throw new FileFormatError(
    `The adapter in ${where} has no ${missing}, which its modules_to_save ${JSON.stringify(modules)} names.`,
    "Save it again with this module, or leave the module out of adapter_config.json to take the model's own.",
  );
}

/**
 * Where a last projection shares the embeddings' table, a file may have this table under both names.
 * @throws FileFormatError if they differ.
 */
function joinTable(adapter: Adapter, model: Model, tensors: Map<string, FloatTensor>, where: string): void {
  const { module, table } = model.tiedOutput ?? {};
  const output = tensors.get(`${module}.weight`);
  if (!output || table === undefined || adapter.tie?.(model) === "own") return;
  const { data } = tensors.get(table) ?? output;
  tensors.delete(`${module}.weight`);
  tensors.set(table, output);
  if (data.length === output.data.length && data.every((value, i) => value === output.data[i])) return;
  throw new FileFormatError(
    `The adapter in ${where} has other values for ${module}.weight than for ${table}, which is the same tensor in this model.`,
    "Load a model whose config.json has tie_word_embeddings: false.",
  );
}

/**
 * The tensors of a file that are the model's own, in front of its layers or behind them, with other values than there: PEFT saves
 * embeddings that were resized, or that are adapted (`save_embedding_layers`). What the model has already is taken out of `tensors`.
 * @throws ConfigError for one that the model stores in fewer bits.
 */
async function baseWeights(
  adapter: Adapter,
  model: Model,
  tensors: Map<string, FloatTensor>,
  { where, loaded }: { readonly where: string; readonly loaded: LoadedWeights | undefined },
): Promise<string[]> {
  const shapes = shapesOf(adapter, model);
  const weights: string[] = [];
  for (const { name, shape, layer, dtype = "f32" } of model.parameters) {
    const tensor = tensors.get(name);
    if (!tensor || shapes.has(name) || typeof layer === "number" || !sameShape(tensor.shape, shape)) continue;
    if (await loaded?.isLoaded(name, tensor)) {
      tensors.delete(name);
      continue;
    }
    if (dtype !== "f32") {
      throw new ConfigError(
        `The adapter in ${where} has a ${name} of its own (save_embedding_layers), which this model stores as ${dtype}.`,
        "Load the model with f32 weights.",
      );
    }
    weights.push(name);
  }
  return weights;
}

function unknownTensor(name: string, model: Model, where: string): FileFormatError {
  const [, module] = /^(.*?)\.(?:lora|ia3|vera|hada|lokr|oft)_/.exec(name) ?? [];
  const isProjection = model.projections.some((projection) => projection.name === module);
  if (module !== undefined && !isProjection) {
    return new FileFormatError(
      `The adapter in ${where} has ${name}: its target_modules name ${module}, which is no linear projection of this ${model.family} model.`,
      "Adapters of tables of embeddings and convolutions are not implemented: train it without this target, or with the module among modules_to_save.",
    );
  }
  return new FileFormatError(
    `The adapter in ${where} has ${name}, which its configuration does not add to this ${model.family} model.`,
    "Load the model that the adapter was trained on.",
  );
}

/**
 * The last projection of a model that shares the embeddings' table, where a file saves the table alone and has a weight for the
 * projection as well, which PEFT reads: its own files of GPT-2 with `ensure_weight_tying` name the table alone.
 */
function storedOutput(config: PeftConfig, model: Model, modules: readonly string[], stored: Tensors): string[] {
  const known = modules.filter((module) => isSavedModule(model, module));
  const { module } = model.tiedOutput ?? {};
  if (module === undefined || tieOf(model, known, config["ensure_weight_tying"] === true) !== "original") return [];
  return [...stored.keys()].some((key) => stripPrefix(key) === `${module}.weight`) ? [module] : [];
}

/** A shape without sizes of 1: PEFT stores vectors as columns or rows. */
const withoutOnes = (shape: Shape): number[] => shape.filter((size) => size !== 1);
