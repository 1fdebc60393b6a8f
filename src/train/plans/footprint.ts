import type { Adapter } from "../../adapter/adapter";
import { noBytes } from "../../gpu/ledger";
import type { Bytes } from "../../gpu/ledger";
import type { Model } from "../../model/model";
import type { TensorSpec } from "../../op/declaration";
import { executorBytes } from "../../run/footprint";
import { fixedSpecs } from "../tensors/specs";
import { specBytes } from "../../tape/emit";
import type { Plan } from "../../tape/plan";

/**
 * GPU bytes of a run that holds these plans, by lifetime: the checkpoint, trainable tensors, a gradient and two moments
 * for each live one, and the plans' buffers. Pure; equals the ledger to the byte.
 * @param specs every trainable tensor, live or frozen; default the live ones.
 * @param companions tensors of its shape beside each live one; default a gradient and two moments.
 */
export function footprint(
  model: Model,
  adapter: Adapter,
  live: ReadonlyMap<string, TensorSpec>,
  plans: readonly Plan[],
  specs: ReadonlyMap<string, TensorSpec> = live,
  companions: (name: string) => number = () => 3,
): Bytes {
  const bytes = noBytes();
  for (const { shape, dtype = "f32" } of model.parameters) bytes.weight += specBytes({ shape, dtype });
  const own = new Set(adapter.tensors(model).map(({ name }) => name));
  for (const spec of fixedSpecs(model, adapter).values()) bytes.state += specBytes(spec);
  for (const [name, spec] of specs) {
    if (!adapter.trainsInPlace || own.has(name)) bytes.state += specBytes(spec);
  }
  for (const [name, spec] of live) bytes.state += companions(name) * specBytes(spec);
  const planned = executorBytes(plans);
  return { ...bytes, saved: planned.saved, scratch: planned.scratch };
}

/** What follows from plans, made anew only where they have changed. */
export class OfPlans<T> {
  #last: { readonly plans: readonly Plan[]; readonly value: T } | undefined;

  get(plans: readonly Plan[], make: () => T): T {
    const last = this.#last;
    if (last?.plans.length === plans.length && plans.every((plan, i) => plan === last.plans[i])) return last.value;
    const value = make();
    this.#last = { plans, value };
    return value;
  }
}
