import { FileFormatError, ShapeError } from "../base/errors";
import { formatShape, sameShape } from "../base/shape";
import type { Shape } from "../base/shape";
import { headKey, stripPrefix } from "../io/peft-keys";
import type { PeftConfig } from "../io/peft";
import { shortestSuffixes } from "../io/peft-match";
import type { Model } from "../model/model";
import type { Adapter, AdapterFile, AdapterState, Tensors } from "./adapter";
import { adapterFromConfig } from "./kinds";
import { maskedProjections, withOutputMasks } from "./masked";

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
  const file = state?.toFile?.(tensors) ??
    adapter.toFile?.(model, tensors) ?? { config: adapter.peftConfig(model), tensors: keyed };
  return transformers === 5 && model.renamed ? renamedFile(file, model) : file;
}

/** Files with the module names of transformers 5. */
function renamedFile({ config, tensors }: AdapterFile, model: Model): AdapterFile {
  const newNames = new Map(model.projections.map(({ name }) => [name, model.renamed?.(name) ?? name]));
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
      ...withRenamedPattern(config, newNames),
      ...renamedList("target_modules"),
      ...renamedList("feedforward_modules"),
    },
    tensors: new Map([...tensors].map(([key, tensor]) => [withRenamedModule(key, newNames), tensor])),
  };
}

/** A configuration with other module names in its `rank_pattern` (AdaLoRA's kept triplets). */
function withRenamedPattern(config: PeftConfig, newNames: ReadonlyMap<string, string>): PeftConfig {
  const { rank_pattern: pattern } = config;
  if (!pattern || typeof pattern !== "object") return config;
  const entries = Object.entries(pattern).map(([key, value]) => [withRenamedModule(key, newNames), value] as const);
  return { ...config, rank_pattern: Object.fromEntries(entries) };
}

/** A tensor's name, or a file's key, with another name of its module. */
function withRenamedModule(name: string, newNames: ReadonlyMap<string, string>): string {
  for (const [module, newName] of newNames) {
    if (name.includes(`${module}.`)) return name.replace(module, newName);
  }
  return name;
}

/**
 * The adapter of two files for a model, and its tensors by the names that they have there.
 * @param where names the files in errors.
 * @throws FileFormatError, ShapeError or ConfigError for an unknown kind, wrong values, or files of another model.
 */
export async function adapterOfFile(
  file: AdapterFile,
  model: Model,
  where: string,
): Promise<{ adapter: Adapter; tensors: Tensors }> {
  const canonical = new Map(model.projections.map(({ name }) => [model.renamed?.(name) ?? name, name]));
  const config = model.renamed ? withRenamedPattern(file.config, canonical) : file.config;
  const ofConfig = await adapterFromConfig(config, where);
  const withoutPrefix = (): Tensors => new Map([...file.tensors].map(([key, tensor]) => [stripPrefix(key), tensor]));
  const stored = [...(ofConfig.fromFile?.(file.tensors) ?? withoutPrefix())];
  const tensors = new Map(
    stored.map(([name, tensor]) => [model.renamed ? withRenamedModule(name, canonical) : name, tensor]),
  );
  const masked = maskedProjections(tensors.keys());
  const adapter = masked.length > 0 ? withOutputMasks(ofConfig, masked) : ofConfig;
  const adapterTensors = adapter.tensors(model);
  const baseTensors = new Set(adapter.baseTensors?.(model) ?? []);
  const shapes = new Map<string, Shape>([
    ...adapterTensors.map(({ name, shape }) => [name, shape] as const),
    ...model.parameters.filter(({ name }) => baseTensors.has(name)).map(({ name, shape }) => [name, shape] as const),
  ]);
  const missing = adapterTensors.find(({ name }) => !tensors.has(name));
  if (missing) {
    throw new FileFormatError(
      `The adapter in ${where} has no ${missing.name}.`,
      "Save it again, or load the model that it was trained on.",
    );
  }
  for (const [name, tensor] of tensors) {
    const shape = shapes.get(name);
    if (!shape) {
      throw new FileFormatError(
        `The adapter in ${where} has ${name}, which its configuration does not add to this ${model.family} model.`,
        "Load the model that the adapter was trained on.",
      );
    }
    if (sameShape(withoutOnes(tensor.shape), withoutOnes(shape))) continue;
    throw new ShapeError(
      `${name} is ${formatShape(tensor.shape)} in ${where}, but ${formatShape(shape)} for this model.`,
      "Load the model that the adapter was trained on, with the same rank and number of labels.",
    );
  }
  return { adapter, tensors };
}

/** A shape without sizes of 1: PEFT stores vectors as columns or rows. */
const withoutOnes = (shape: Shape): number[] => shape.filter((size) => size !== 1);
