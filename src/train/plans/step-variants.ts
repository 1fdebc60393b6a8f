import type { Adapter } from "../../adapter/adapter";
import type { Policy } from "../../freeze/policy";
import type { Model, TensorPlace } from "../../model/model";
import { trainableSpecs } from "../tensors/specs";
import type { DroppedLayers } from "./trace";

/** The sets of layers that a run's steps leave out, in addition to the empty set. */
export interface StepVariants {
  readonly sets: readonly DroppedLayers[];
  /** Whether the adapters of these layers still act, and only rest. */
  readonly adaptersAct: boolean;
  /** Where each tensor that may learn acts, by name. */
  readonly places: ReadonlyMap<string, TensorPlace>;
}

/** The variants of a policy's steps; undefined for a policy that never leaves any layers out. */
export function stepVariants(policy: Policy | undefined, model: Model, adapter: Adapter): StepVariants | undefined {
  if (policy?.kind !== "layer_dropping") return undefined;
  return {
    sets: policy.variants(model.layers),
    adaptersAct: policy.adaptersAct ?? false,
    places: new Map([...trainableSpecs(model, adapter)].map(([name, { layer }]) => [name, layer])),
  };
}

/** Whether a tensor learns in a step that leaves these layers out. */
export function learnsWithout(dropped: DroppedLayers, name: string, { places, adaptersAct }: StepVariants): boolean {
  const place = places.get(name);
  // What learns below a layer that rests would need the activations of that layer too.
  const layer = place === "below" && adaptersAct ? 0 : place;
  return !(typeof layer === "number" && dropped.includes(layer));
}
