import type { Adapter, AdapterTensor } from "../../adapter/adapter";
import { ConfigError } from "../../base/errors";
import { elements } from "../../base/shape";
import { isInHead } from "../../model/model";
import type { Model, TensorPlace } from "../../model/model";
import type { TensorSpec } from "../../op/declaration";

/** A tensor that a run trains, or that its adapter adds. */
export interface TrainableSpec extends TensorSpec {
  /** Where it acts. */
  readonly layer: TensorPlace;
}

/**
 * Tensors that learn, by name: those that an adapter adds to a model, then those of the checkpoint that it trains.
 * @throws ConfigError for a tensor that belongs to a module of a layer but does not say which.
 */
export function trainableSpecs(model: Model, adapter: Adapter): ReadonlyMap<string, TrainableSpec> {
  const added = adapter.tensors(model).filter(({ isFixed }) => !isFixed);
  for (const tensor of added) checkLayer(model, adapter, tensor);
  const names = new Set(adapter.baseTensors?.(model) ?? []);
  return specsOf([...added, ...model.parameters.filter(({ name }) => names.has(name))]);
}

/** Policies freeze by layer: a tensor in a layer, or below them, that does not say so would never be frozen. */
function checkLayer(model: Model, { kind }: Adapter, { name, layer }: AdapterTensor): void {
  const owner = layer === undefined ? placeAround(model, name) : undefined;
  if (owner === undefined) return;
  const place = owner === "below" ? "lies below the layers" : `is in layer ${owner}`;
  throw new ConfigError(
    `The adapter ${kind} adds ${name} without a layer, although its module ${place}.`,
    'Give its tensors the `layer` of the projection or block that they belong to, or "below".',
  );
}

/** The place of the innermost module of the checkpoint that a tensor is in, by the places of that module's parameters. */
function placeAround({ parameters, layers }: Model, name: string): TensorPlace {
  const parts = name.split(".");
  for (let length = parts.length - 1; length > 0; length--) {
    const module = `${parts.slice(0, length).join(".")}.`;
    const around = new Set(parameters.filter((parameter) => parameter.name.startsWith(module)).map((p) => p.layer));
    // In a model of one layer, the module of all layers looks like the layer.
    if (around.size > 0) return around.size === 1 && layers > 1 ? [...around][0] : undefined;
  }
  return undefined;
}

/** Tensors that an adapter adds and that never learn, by name. */
export function fixedSpecs(model: Model, adapter: Adapter): ReadonlyMap<string, TrainableSpec> {
  return specsOf(adapter.tensors(model).filter(({ isFixed }) => isFixed));
}

/** Parameters of tensors outside the task's head, which papers leave out of their counts. */
export function parametersOutsideHead(model: Model, specs: ReadonlyMap<string, TensorSpec>): number {
  const counted = [...specs].filter(([name]) => !isInHead(model, name));
  return counted.reduce((sum, [, { shape }]) => sum + elements(shape), 0);
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
