import { ConfigError, FileFormatError, ShapeError } from "../base/errors";
import { formatShape, sameShape } from "../base/shape";
import type { Adapter } from "../adapter/adapter";
import { loraFromConfig } from "../adapter/lora";
import { writeCheckpoint } from "../io/checkpoint";
import type { Directory } from "../io/directory";
import type { LoadedModel } from "../io/load-model";
import { readAdapterDirectory, writeAdapterDirectory } from "../io/peft";
import { headKey, stripPrefix } from "../io/peft-keys";
import { parseLoraConfig } from "../io/peft-lora";
import type { Trainer } from "./trainer";
import { trainableSpecs } from "./state";

/** Tensors of a saved adapter by their names in the model, as `TrainState.restore` takes them. */
export type AdapterTensors = ReadonlyMap<string, { readonly shape: readonly number[]; readonly data: Float32Array }>;

/**
 * Writes what a trainer has learnt as a PEFT adapter directory, both files whole or neither.
 * @throws ConfigError for full tuning, which has no adapter: use `saveModel`.
 */
export async function saveAdapter(directory: Directory, trainer: Trainer): Promise<void> {
  const { adapter, model: loaded } = trainer.options;
  if (adapter.trainsInPlace) {
    throw new ConfigError(`${adapter.kind} tuning has no adapter to save.`, "Use saveModel(directory, model).");
  }
  const tensors = [...(await trainer.state.snapshot())].map(([name, tensor]) => ({ name: headKey(name), ...tensor }));
  await writeAdapterDirectory(directory, adapter.peftConfig(loaded.model), tensors);
}

/**
 * Reads a PEFT adapter directory for a model.
 * @throws FileFormatError, ShapeError or ConfigError when it is damaged, of an unknown kind, or made for another model.
 */
export async function loadAdapter(
  directory: Directory,
  { model }: LoadedModel,
): Promise<{ adapter: Adapter; tensors: AdapterTensors }> {
  const { config, tensors: stored } = await readAdapterDirectory(directory);
  if (config.peft_type !== "LORA") {
    throw new ConfigError(
      `The adapter in ${directory.name} has peft_type ${config.peft_type}.`,
      "LORA is the kind that can be loaded.",
    );
  }
  const adapter = loraFromConfig(parseLoraConfig(config, directory.name));
  const specs = trainableSpecs(model, adapter);
  const tensors = new Map([...stored].map(([key, tensor]) => [stripPrefix(key), tensor]));
  for (const [name, { shape }] of specs) {
    const found = tensors.get(name);
    if (!found) {
      // An adapter saved without its head keeps the model's own.
      if (!name.includes(".lora_")) continue;
      throw new FileFormatError(
        `The adapter in ${directory.name} has no ${name}.`,
        "Save it again, or pick its model.",
      );
    }
    if (!sameShape(found.shape, shape)) {
      throw new ShapeError(
        `${name} is ${formatShape(found.shape)} in ${directory.name}; this model makes it ${formatShape(shape)}.`,
        "Load the model that the adapter was trained on, with the same number of labels.",
      );
    }
  }
  const unknown = [...tensors.keys()].find((name) => !specs.has(name));
  if (unknown !== undefined) {
    throw new FileFormatError(
      `The adapter in ${directory.name} has ${unknown}, which this ${model.family} model does not have.`,
      "Load the model that the adapter was trained on.",
    );
  }
  return { adapter, tensors };
}

/** Writes a model's weights as a Hugging Face directory: after full tuning, the tuned ones. */
export async function saveModel(directory: Directory, loaded: LoadedModel): Promise<void> {
  const tensors = [...loaded.weights].map(([name, tensor]) => ({
    name,
    shape: tensor.shape,
    data: async () => (await tensor.read()) as Float32Array,
  }));
  await writeCheckpoint(directory, loaded.model.config, tensors);
}
