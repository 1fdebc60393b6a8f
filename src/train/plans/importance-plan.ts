import type { Adapter } from "../../adapter/adapter";
import { loraName } from "../../adapter/lora";
import type { StructurePruningPolicy } from "../../freeze/policy";
import type { Model } from "../../model/model";
import type { Span, Structure } from "../../model/structure";
import type { TensorSpec } from "../../op/declaration";
import type { Limits } from "../../op/limits";
import { loraImportance } from "../../ops/lora_importance";
import { plan } from "../../tape/plan";
import type { Plan } from "../../tape/plan";
import { Recorder } from "../../tape/tape";
import type { Value } from "../../tape/tape";
import { gradientName } from "../tensors/names";

/** Heads and neurons that a policy may take out of a model. */
export function prunableStructures(model: Model, policy: StructurePruningPolicy): Structure[] {
  const all = Array.from({ length: model.layers }, (_, layer) => model.structures(layer)).flat();
  return all.filter((structure) => policy.applies(structure, model.layers));
}

/** The plan whose outputs are the importance of each judged projection's outputs or inputs; undefined where none is live. */
export function importancePlan(
  { model, adapter, structures }: { model: Model; adapter: Adapter; structures: readonly Structure[] },
  live: ReadonlyMap<string, TensorSpec>,
  limits: Limits,
): Plan | undefined {
  const told = new Map([...live].map(([name, { shape }]) => [name, { shape, data: NONE }]));
  const recorder = new Recorder();
  const outputs: Record<string, Value> = {};
  for (const { of, span } of structures.flatMap(spansOf)) {
    const name = span.projection;
    const [a, b] = (["A", "B"] as const).map((part) => live.get(loraName(name, part)));
    const key = importanceName(name, of);
    const projection = model.projections.find((one) => one.name === name);
    if (!a || !b || !projection || outputs[key]) continue;
    const scale = adapter.updates?.(model, told).get(name)?.scale ?? 1;
    const { layout } = projection;
    const shape = layout === "out_in" ? [projection.out, projection.in] : [projection.in, projection.out];
    const own = (part: "A" | "B", { shape: size }: TensorSpec) => ({
      value: recorder.parameter(loraName(name, part), size),
      gradient: recorder.parameter(gradientName(loraName(name, part)), size),
    });
    const [first, second] = [own("A", a), own("B", b)];
    const inputs = { w: recorder.parameter(`${name}.weight`, shape), a: first.value, b: second.value };
    outputs[key] = recorder.labelled(name, () =>
      recorder.apply(
        loraImportance,
        { ...inputs, da: first.gradient, db: second.gradient },
        { layout, scale, per: of },
      ),
    );
  }
  return Object.keys(outputs).length > 0 ? plan(recorder, { outputs, limits }) : undefined;
}

const NONE = new Float32Array(0);
/** Output of the plan that holds a projection's importance. */
export const importanceName = (projection: string, of: "out" | "in"): string => `importance of ${projection}, ${of}`;

/** What a structure is judged by: the outputs that make its groups, and the inputs that read them. */
function spansOf({ outputs, inputs }: Structure): { readonly of: "out" | "in"; readonly span: Span }[] {
  return [
    ...outputs.map((span) => ({ of: "out" as const, span })),
    ...inputs.map((span) => ({ of: "in" as const, span })),
  ];
}

/**
 * One step's importance of each group: sums over its outputs and inputs, of length 1 over the groups for each projection,
 * then added up over the projections.
 */
export function groupImportance(
  structure: Structure,
  find: (projection: string, of: "out" | "in") => Float32Array | undefined,
): Float64Array {
  const total = new Float64Array(structure.groups);
  for (const { of, span } of spansOf(structure)) {
    const values = find(span.projection, of);
    if (!values) continue;
    const sums = total.map((_, group) => {
      const start = span.offset + group * span.size;
      return values.subarray(start, start + span.size).reduce((sum, value) => sum + value, 0);
    });
    const norm = Math.hypot(...sums);
    if (norm > 0) sums.forEach((sum, group) => (total[group] = total[group]! + sum / norm));
  }
  return total;
}
