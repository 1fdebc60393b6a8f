import { loraName } from "../../adapter/lora";
import type { StructurePruningPolicy } from "../../freeze/policy";
import type { Model } from "../../model/model";
import type { Span, Structure } from "../../model/structure";
import type { TensorSpec } from "../../op/declaration";
import { loraImportance } from "../../ops/lora_importance";
import { plan } from "../../tape/plan";
import type { Plan } from "../../tape/plan";
import { Recorder } from "../../tape/tape";
import type { Value } from "../../tape/tape";
import { gradientName } from "../tensors/names";
import { structureSlices } from "../tensors/slices";
import type { PruningPlans, SidePlanOptions } from "./side-plans";

/** Whether an importance counts the outputs or the inputs of a projection. */
type Side = "out" | "in";

/** The heads and neurons of a model that a policy may remove. */
export function prunableStructures(model: Model, policy: StructurePruningPolicy): Structure[] {
  const all = Array.from({ length: model.layers }, (_, layer) => model.structures(layer)).flat();
  return all.filter((structure) => policy.applies(structure, model.layers));
}

/** Output of the importance plan with the importance of every output [out] or input [in] of a projection. */
export const importanceName = (projection: string, side: Side): string => `importance of ${projection}, ${side}`;

/** What a run plans in addition where a policy prunes structures. */
export const pruningPlans = (policy: StructurePruningPolicy): PruningPlans => ({
  importance: (side, live) => importancePlan(side, live, prunableStructures(side.planned.model, policy)),
  tensors: (model) =>
    prunableStructures(model, policy).map((structure) => [...structureSlices(model, structure, []).keys()]),
});

/**
 * The plan that measures the importance of structures by the gradients of their projections' LoRAs (LoRAPrune, Zhang et al.
 * 2023). Undefined where none of these LoRAs learns.
 */
function importancePlan(
  { planned, adapter, limits }: Pick<SidePlanOptions, "planned" | "adapter" | "limits">,
  live: ReadonlyMap<string, TensorSpec>,
  structures: readonly Structure[],
): Plan | undefined {
  const { model } = planned;
  // The scale of an update does not depend on the values of its tensors.
  const withoutValues = new Map([...live].map(([name, { shape }]) => [name, { shape, data: new Float32Array(0) }]));
  const recorder = new Recorder();
  const outputs: Record<string, Value> = {};
  for (const { side, span } of structures.flatMap(spansOf)) {
    const key = importanceName(span.projection, side);
    const projection = model.projections.find(({ name }) => name === span.projection);
    if (!projection || outputs[key]) continue;
    const { name, layout } = projection;
    const [nameA, nameB] = [loraName(name, "A"), loraName(name, "B")];
    const [a, b] = [live.get(nameA), live.get(nameB)];
    if (!a || !b) continue;
    const shape = layout === "out_in" ? [projection.out, projection.in] : [projection.in, projection.out];
    const inputs = {
      w: recorder.parameter(`${name}.weight`, shape),
      a: recorder.parameter(nameA, a.shape),
      b: recorder.parameter(nameB, b.shape),
      da: recorder.parameter(gradientName(nameA), a.shape),
      db: recorder.parameter(gradientName(nameB), b.shape),
    };
    const scale = adapter.updates?.(model, withoutValues).get(name)?.scale ?? 1;
    outputs[key] = recorder.labelled(name, () => recorder.apply(loraImportance, inputs, { layout, scale, per: side }));
  }
  return Object.keys(outputs).length > 0 ? plan(recorder, { outputs, limits }) : undefined;
}

/** The spans of a structure that are measured: the outputs that make its groups, and the inputs that read them. */
function spansOf({ outputs, inputs }: Structure): { readonly side: Side; readonly span: Span }[] {
  return [
    ...outputs.map((span) => ({ side: "out" as const, span })),
    ...inputs.map((span) => ({ side: "in" as const, span })),
  ];
}

/**
 * The importance of each group of a structure in one step: for every span, the sums over the group's outputs or inputs,
 * divided by their Euclidean norm over all groups; then the sum over the spans.
 * @param find the importance of every output or input of a projection; undefined where it was not measured.
 * @param out groups that are removed: their importance is 0, also in the norm.
 */
export function groupImportance(
  structure: Structure,
  find: (projection: string, side: Side) => Float32Array | undefined,
  out: ReadonlySet<number> = new Set(),
): Float64Array {
  const total = new Float64Array(structure.groups);
  for (const { side, span } of spansOf(structure)) {
    const values = find(span.projection, side);
    if (!values) continue;
    const sums = total.map((_, group) => {
      if (out.has(group)) return 0;
      const start = span.offset + group * span.size;
      return values.subarray(start, start + span.size).reduce((sum, value) => sum + value, 0);
    });
    const norm = Math.hypot(...sums);
    if (norm > 0) sums.forEach((sum, group) => (total[group] = total[group]! + sum / norm));
  }
  return total;
}
