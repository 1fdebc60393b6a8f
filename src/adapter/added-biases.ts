import type { Model, Projection } from "../model/model";
import type { Adapter } from "./adapter";
import { constant } from "./initial";

/** An adapter that also gives each of these projections that has no bias one of zeros, which learns. */
export function withAddedBiases(adapter: Adapter, projectionsOf: (model: Model) => readonly Projection[]): Adapter {
  const withoutBias = (model: Model): readonly Projection[] => projectionsOf(model).filter(({ bias }) => !bias);
  const namesByModel = new WeakMap<Model, ReadonlySet<string>>();
  const isChosen = (model: Model, { name }: Projection): boolean => {
    const names = namesByModel.get(model) ?? new Set(withoutBias(model).map((projection) => projection.name));
    namesByModel.set(model, names);
    return names.has(name);
  };
  return {
    ...adapter,
    tensors: (model) => [
      ...adapter.tensors(model),
      ...withoutBias(model).map(({ name, out, layer }) => ({ ...constant(`${name}.bias`, [out], 0), layer })),
    ],
    bias(forward, projection) {
      if (!isChosen(forward.model, projection)) return undefined;
      return forward.recorder.parameter(`${projection.name}.bias`, [projection.out]);
    },
  };
}
