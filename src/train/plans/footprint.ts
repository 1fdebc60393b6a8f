import type { Adapter } from "../../adapter/adapter";
import { noBytes } from "../../gpu/ledger";
import type { Bytes } from "../../gpu/ledger";
import type { Model } from "../../model/model";
import { executorBytes } from "../../run/footprint";
import { specBytes } from "../../tape/emit";
import type { Plan } from "../../tape/plan";
import { fixedSpecs, trainableSpecs } from "../tensors/specs";

/**
 * GPU bytes of a run that holds some plans, by lifetime: the checkpoint's weights, the adapter's and all trained tensors
 * with their companions, and the plans' buffers. Pure; equals the ledger to the byte.
 * @param companions tensors of its shape that a trainable tensor has in addition: gradient, moments, statistics, mask.
 */
export function footprint(
  model: Model,
  adapter: Adapter,
  plans: readonly Plan[],
  companions: (name: string) => number,
): Bytes {
  const { saved, scratch } = executorBytes(plans);
  return { ...noBytes(), weight: weightBytes(model), state: stateBytes(model, adapter, companions), saved, scratch };
}

/** Bytes of a model's weights as they are stored. */
export function weightBytes(model: Model): number {
  return model.parameters.reduce((sum, { shape, dtype = "f32" }) => sum + specBytes({ shape, dtype }), 0);
}

function stateBytes(model: Model, adapter: Adapter, companions: (name: string) => number): number {
  const added = new Set(adapter.tensors(model).map(({ name }) => name));
  let bytes = 0;
  for (const spec of fixedSpecs(model, adapter).values()) bytes += specBytes(spec);
  for (const [name, spec] of trainableSpecs(model, adapter)) {
    const isCopy = !adapter.trainsInPlace || added.has(name);
    bytes += (companions(name) + (isCopy ? 1 : 0)) * specBytes(spec);
  }
  return bytes;
}

/** A value that follows from plans, computed again only where these have changed. */
export class OfPlans<T> {
  #last: { readonly plans: readonly Plan[]; readonly value: T } | undefined;

  get(plans: readonly Plan[], compute: () => T): T {
    const last = this.#last;
    if (last?.plans.length === plans.length && plans.every((plan, i) => plan === last.plans[i])) return last.value;
    const value = compute();
    this.#last = { plans, value };
    return value;
  }
}
