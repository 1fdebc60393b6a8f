import { expect, it } from "vitest";
import { defineOp } from "../../src/op/declaration";
import type { Op, TestedOp } from "../../src/op/declaration";
import { OPS } from "../../src/testing/ops";
import { useEngine } from "../support/engine";
import { relativeError } from "../../src/base/relative-error";
import { caseInputs, runCase } from "../../src/testing/run-case";

const { device } = await useEngine();

/** An op whose forward pass is the inverse of another op: from its first output and its other inputs. */
function inverseOf(op: TestedOp): Op {
  const inverse = op.inverse!;
  const { of } = inverse;
  const [output = ""] = op.outputs;
  const others = Object.entries(op.inputs).filter(([slot]) => slot !== of);
  return defineOp({
    name: `inverse of ${op.name}`,
    inputs: { ...Object.fromEntries(others), [output]: {} },
    outputs: [of],
    infer: (context) => ({ [of]: context.spec(output) }),
    forward: (context) => inverse.launches(context),
    gradients: [],
    flops: (context) => op.flops(context),
  });
}

const cases = OPS.filter(({ inverse }) => inverse).flatMap((op) =>
  op.cases.filter(({ bench }) => !bench).map((test) => [`${op.name}: ${test.name}`, op, test] as const),
);

it.each(cases)("%s: the inverse gives the input back beside the output", async (_name, op, test) => {
  const given = caseInputs(op, test);
  const of = op.inverse!.of;
  const [output = ""] = op.outputs;
  const others = Object.fromEntries(Object.entries(given).filter(([slot]) => slot !== of));
  const y = op.reference(given, test.attributes)[output]!;
  const inputs = { ...others, [output]: y };
  const shapes = Object.fromEntries(Object.entries(inputs).map(([slot, { shape }]) => [slot, { shape }]));
  const { outputs } = await runCase(device, inverseOf(op), { ...test, inputs: shapes }, inputs);
  expect(relativeError(outputs.get(of)!, given[of]!.data)).toBeLessThan(1e-5);
});
