import { FileFormatError, ShapeError } from "../base/errors";
import { formatShape, sameShape } from "../base/shape";
import type { Shape } from "../base/shape";
import { headKey, stripPrefix } from "../io/peft-keys";
import type { PeftConfig } from "../io/peft";
import type { Model } from "../model/model";
import type { Adapter, AdapterFile, AdapterState, Tensors } from "./adapter";
import { adapterFromConfig } from "./kinds";

/**
 * An adapter's two files, as PEFT lays them out.
 * @param transformers the version whose module names the files use: ViT's changed in 5.
 * @param state of the adapter in the run that the tensors come from. Default none: it has learned nothing yet.
 */
export function adapterFile(
  adapter: Adapter,
  model: Model,
  tensors: Tensors,
  transformers: 4 | 5 = 5,
  state?: AdapterState,
): AdapterFile {
  const keyed = new Map([...tensors].map(([name, tensor]) => [headKey(name), tensor]));
  const file = state?.toFile?.(tensors) ??
    adapter.toFile?.(model, tensors) ?? { config: adapter.peftConfig(model), tensors: keyed };
  return transformers === 5 && model.renamed ? renamedFile(file, model) : file;
}

/** The same file with the module names of transformers 5. */
function renamedFile({ config, tensors }: AdapterFile, model: Model): AdapterFile {
  const names = new Map(model.projections.map(({ name }) => [name, model.renamed?.(name) ?? name]));
  const { target_modules: targets } = config as { readonly target_modules?: string | readonly string[] | null };
  const isTarget = (name: string): boolean =>
    Array.isArray(targets) && targets.some((target: string) => name === target || name.endsWith(`.${target}`));
  const named = [...names].filter(([name]) => isTarget(name)).map(([, renamed]) => renamed.split(".").at(-1)!);
  return {
    config: {
      ...withPatterns(config, names),
      ...(named.length > 0 ? { target_modules: [...new Set(named)] } : {}),
    },
    tensors: new Map([...tensors].map(([key, tensor]) => [withModule(key, names), tensor])),
  };
}

/** A configuration whose patterns name modules as a map has them: AdaLoRA's ranks. */
function withPatterns(config: PeftConfig, modules: ReadonlyMap<string, string>): PeftConfig {
  const { rank_pattern: pattern } = config;
  if (!pattern || typeof pattern !== "object") return config;
  const entries = Object.entries(pattern).map(([key, value]) => [withModule(key, modules), value] as const);
  return { ...config, rank_pattern: Object.fromEntries(entries) };
}

/** A tensor's name with its module's name looked up. */
function withModule(name: string, modules: ReadonlyMap<string, string>): string {
  for (const [module, other] of modules) {
    if (name.includes(`${module}.`)) return name.replace(module, other);
  }
  return name;
}

/**
 * The adapter that two files hold, for a model, and its tensors by their names there. `where` names the files in errors.
 * @throws FileFormatError, ShapeError or ConfigError for an unknown kind, wrong values, or files of another model.
 */
export function adapterOfFile(file: AdapterFile, model: Model, where: string): { adapter: Adapter; tensors: Tensors } {
  const canonical = new Map(model.projections.map(({ name }) => [model.renamed?.(name) ?? name, name]));
  const adapter = adapterFromConfig(model.renamed ? withPatterns(file.config, canonical) : file.config, where);
  const bare = (): Tensors => new Map([...file.tensors].map(([key, tensor]) => [stripPrefix(key), tensor]));
  const named = [...(adapter.fromFile?.(file.tensors) ?? bare())];
  const tensors = new Map(named.map(([name, tensor]) => [model.renamed ? withModule(name, canonical) : name, tensor]));
  const own = adapter.tensors(model);
  const trained = new Set(adapter.baseTensors?.(model) ?? []);
  const shapes = new Map<string, Shape>([
    ...own.map(({ name, shape }) => [name, shape] as const),
    ...model.parameters.filter(({ name }) => trained.has(name)).map(({ name, shape }) => [name, shape] as const),
  ]);
  const missing = own.find(({ name }) => !tensors.has(name));
  if (missing) {
    throw new FileFormatError(`The adapter in ${where} has no ${missing.name}.`, "Save it again, or pick its model.");
  }
  for (const [name, found] of tensors) {
    const shape = shapes.get(name);
    if (!shape) {
      throw new FileFormatError(
        `The adapter in ${where} has ${name}, which its configuration does not give this ${model.family} model.`,
        "Load the model that the adapter was trained on.",
      );
    }
    if (sameShape(withoutOnes(found.shape), withoutOnes(shape))) continue;
    throw new ShapeError(
      `${name} is ${formatShape(found.shape)} in ${where}; this model makes it ${formatShape(shape)}.`,
      "Load the model that the adapter was trained on, with the same rank and number of labels.",
    );
  }
  return { adapter, tensors };
}

/** PEFT stores vectors as columns or rows. */
const withoutOnes = (shape: Shape): number[] => shape.filter((size) => size !== 1);
