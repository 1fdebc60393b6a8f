import type { Adapter, AdapterTensor } from "../../adapter/adapter";
import { ConfigError } from "../../base/errors";
import type { Model } from "../../model/model";
import type { TensorSpec } from "../../op/declaration";

/** A tensor that a run trains, or that its adapter adds. */
export interface TrainableSpec extends TensorSpec {
  /** Transformer layer, from 0; undefined outside the layers (embeddings, a head). */
  readonly layer: number | undefined;
}

/** Tensors that learn, by name: those that an adapter adds to a model, then those of the checkpoint that it trains. */
export function trainableSpecs(model: Model, adapter: Adapter): ReadonlyMap<string, TrainableSpec> {
  const added = adapter.tensors(model).filter(({ isFixed }) => !isFixed);
  const names = new Set(adapter.baseTensors?.(model) ?? []);
  return specsOf([...added, ...model.parameters.filter(({ name }) => names.has(name))]);
}

/** Tensors that an adapter adds and that never learn, by name. */
export function fixedSpecs(model: Model, adapter: Adapter): ReadonlyMap<string, TrainableSpec> {
  return specsOf(adapter.tensors(model).filter(({ isFixed }) => isFixed));
}

function specsOf(tensors: readonly Pick<AdapterTensor, "name" | "shape" | "layer">[]): Map<string, TrainableSpec> {
  return new Map(tensors.map(({ name, shape, layer }) => [name, { shape, dtype: "f32", layer }]));
}

/** @throws ConfigError if the adapter trains a tensor of the checkpoint that is stored in fewer bits than f32. */
export function checkTrainable(model: Model, adapter: Adapter): void {
  const names = new Set(adapter.baseTensors?.(model) ?? []);
  const packed = model.parameters.find(({ name, dtype = "f32" }) => dtype !== "f32" && names.has(name));
  if (!packed) return;
  throw new ConfigError(
    `The adapter trains ${packed.name}, which is stored as ${packed.dtype}.`,
    "Load the model with f32 weights, or use an adapter that does not train this tensor.",
  );
}
