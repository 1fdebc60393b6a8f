import type { Model } from "../../src/index";
import { trace } from "../../src/train/plans/trace";

/** Everything that a model computes, as data: models of equal contents have equal results. */
export function modelContents(model: Model): unknown {
  const { parameters, projections, maxLength, padId, heads, classes, task } = model;
  const { encoderLayers, startId } = model.encoderDecoder ?? {};
  const hasTargets = model.encoderDecoder !== undefined || task === "masked_lm";
  const batch = { size: 2, length: model.image ? maxLength : 8, ...(hasTargets && { targetLength: 4 }) };
  const { tape } = trace({ model, batch, isTraining: true });
  const nodes = tape.nodes.map(({ op, attributes, inputs }) => ({ op: op.name, attributes, inputs }));
  const constants = [8, 20].map((length) => model.constants?.(Int32Array.of(0, 1, 7), { ...batch, length }));
  const sizes = { maxLength, padId, heads, classes, task, encoderLayers, startId };
  return { parameters, projections, ...sizes, nodes, values: tape.values, constants };
}
