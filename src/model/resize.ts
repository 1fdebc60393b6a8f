import { projectionParameters } from "./model";
import type { Model, Projection } from "./model";
import type { Span, Structure } from "./structure";

/** A key of a structure that does not change with its number of groups. */
export const structureKey = ({ kind, layer }: Pick<Structure, "kind" | "layer">): string => `${kind} of layer ${layer}`;

/**
 * A model with fewer attention heads or neurons in some layers. Its tensors bear the same names, and the projections into
 * and out of these heads and neurons are narrower by the groups that are gone; everything else is as it was.
 * @param groups number of groups by `structureKey`. Default for a structure: all that it has.
 */
export function withGroups(model: Model, groups: ReadonlyMap<string, number>): Model {
  const structures = Array.from({ length: model.layers }, (_, layer) =>
    model.structures(layer).map((structure) => resized(structure, groups.get(structureKey(structure)))),
  );
  const projections = new Map(model.projections.map((projection) => [projection.name, projection]));
  const widen = (side: "in" | "out", { projection, size }: Span, addedGroups: number): void => {
    const old = projections.get(projection)!;
    projections.set(projection, { ...old, [side]: old[side] + addedGroups * size });
  };
  for (const [layer, resizedStructures] of structures.entries()) {
    for (const [i, { groups: before, outputs, inputs }] of model.structures(layer).entries()) {
      const addedGroups = resizedStructures[i]!.groups - before;
      for (const span of outputs) widen("out", span, addedGroups);
      for (const span of inputs) widen("in", span, addedGroups);
    }
  }
  const shapes = new Map(
    [...projections.values()].flatMap((projection: Projection) =>
      projectionParameters(projection).map(({ name, shape }) => [name, shape] as const),
    ),
  );
  return {
    ...model,
    projections: [...projections.values()],
    parameters: model.parameters.map((spec) => ({ ...spec, shape: shapes.get(spec.name) ?? spec.shape })),
    structures: (layer) => structures[layer]!,
  };
}

/** A structure with fewer groups. The spans of a fused projection move together. */
function resized(structure: Structure, groups = structure.groups): Structure {
  const removed = structure.groups - groups;
  const moved = (spans: readonly Span[]): Span[] =>
    spans.map((span) => {
      const before = spans.filter(({ projection, offset }) => projection === span.projection && offset < span.offset);
      return { ...span, offset: span.offset - removed * before.reduce((sum, { size }) => sum + size, 0) };
    });
  return { ...structure, groups, outputs: moved(structure.outputs), inputs: moved(structure.inputs) };
}
