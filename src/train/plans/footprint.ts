import type { Adapter } from "../../adapter/adapter";
import type { Shape } from "../../base/shape";
import { noBytes } from "../../gpu/ledger";
import type { Bytes } from "../../gpu/ledger";
import type { Model } from "../../model/model";
import { executorBytes } from "../../run/footprint";
import { specBytes } from "../../tape/emit";
import type { Plan } from "../../tape/plan";
import { stateBuffers } from "../tensors/arenas";
import type { Companion } from "../tensors/names";

/**
 * GPU bytes of a run that holds some plans, by lifetime: the checkpoint's weights, the adapter's and all trained tensors
 * with their companions, and the plans' buffers. Pure; equals the ledger to the byte.
 * @param companions the tensors that a trainable tensor has in addition: gradient, optimizer's state, statistics, mask.
 */
export function footprint(
  model: Model,
  adapter: Adapter,
  plans: readonly Plan[],
  companions: (name: string, shape: Shape) => readonly Companion[],
): Bytes {
  const { saved, scratch } = executorBytes(plans);
  return { ...noBytes(), weight: weightBytes(model), state: stateBytes(model, adapter, companions), saved, scratch };
}

/** Bytes of a model's weights as they are stored. */
export function weightBytes(model: Model): number {
  return model.parameters.reduce((sum, { shape, dtype = "f32" }) => sum + specBytes({ shape, dtype }), 0);
}

function stateBytes(...run: Parameters<typeof stateBuffers>): number {
  return [...stateBuffers(...run).values()].reduce((sum, { bytes }) => sum + bytes, 0);
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
