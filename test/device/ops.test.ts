import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Device } from "../../src/gpu/device";
import type { Attributes, HostTensor, Op, OpCase } from "../../src/op/declaration";
import { OPS } from "../../src/ops/index";
import { Random } from "../../src/base/random";
import { testDevice } from "../support/device";
import { caseInputs, randomOutput, relativeError, runCase } from "../support/op-runs";
import type { CaseRun } from "../support/op-runs";

const TOLERANCE = 2e-5;
/** Finite differences of the float64 reference: h^2 truncation against 1e-16 / h rounding. */
const STEP = 1e-5;
const GRADIENT_TOLERANCE = 1e-4;

let device: Device;
/** Limits so small that the larger cases are split over bindings and over two grid dimensions. */
let narrow: Device;

beforeAll(async () => {
  device = await testDevice();
  narrow = await testDevice({ bindingBytes: 20480, workgroupsPerDimension: 3 });
});
afterAll(() => {
  for (const opened of [device, narrow]) {
    expect(opened.pool.ledger.liveBytes, "bytes left in the ledger").toBe(0);
    opened.close();
  }
});

const differentiable = (op: Op, test: OpCase<Attributes>): string[] =>
  Object.keys(test.inputs).filter((slot) => op.inputs[slot]?.gradient && !test.inputs[slot]?.format);

function subsets(slots: readonly string[]): string[][] {
  return slots.reduce<string[][]>((all, slot) => [...all, ...all.map((set) => [...set, slot])], [[]]);
}

function checkForward(op: Op, test: OpCase<Attributes>, run: CaseRun, inputs: Record<string, HostTensor>): void {
  const expected = op.reference(inputs, test.attributes);
  for (const [slot, { data }] of Object.entries(expected)) {
    const actual = run.outputs.get(slot) ?? run.mutated.get(slot);
    expect(actual, `${op.name} gave no ${slot}`).toBeDefined();
    if (actual) expect(relativeError(actual, data), `${slot} of ${op.name}`).toBeLessThan(test.tolerance ?? TOLERANCE);
  }
}

/** <gradient, direction> against the change of <dy, y> along it. */
function checkGradient(
  op: Op,
  test: OpCase<Attributes>,
  inputs: Record<string, HostTensor>,
  slot: string,
  gradient: Float32Array,
  dy: Float32Array,
): void {
  const random = new Random(99);
  const { shape, data } = inputs[slot] as HostTensor;
  const direction = data.map(() => random.normal());
  const objective = (sign: number): number => {
    const moved = { shape, data: data.map((v, i) => v + sign * STEP * (direction[i] as number)) };
    const output = op.reference({ ...inputs, [slot]: moved }, test.attributes)[op.outputs[0] as string] as HostTensor;
    return output.data.reduce((sum, v, i) => sum + v * (dy[i] as number), 0);
  };
  const expected = (objective(1) - objective(-1)) / (2 * STEP);
  const actual = gradient.reduce((sum, v, i) => sum + v * (direction[i] as number), 0);
  const size = Math.sqrt(gradient.reduce((sum, v) => sum + v * v, 0) * direction.reduce((sum, v) => sum + v * v, 0));
  const error = Math.abs(actual - expected) / Math.max(size, Math.abs(expected), 1e-6);
  expect(error, `d${slot} of ${op.name}: ${actual} against ${expected}`).toBeLessThan(GRADIENT_TOLERANCE);
}

describe.each(OPS.map((op) => [op.name, op] as const))("%s", (_, op) => {
  const tests = op.cases.filter((test) => !test.bench);

  it.each(tests.map((test) => [test.name, test] as const))("forward: %s", async (_name, test) => {
    const inputs = caseInputs(op, test);
    checkForward(op, test, await runCase(device, op, test, inputs), inputs);
  });

  it.each(tests.map((test) => [test.name, test] as const))("split over bindings: %s", async (_name, test) => {
    const inputs = caseInputs(op, test);
    checkForward(op, test, await runCase(narrow, op, test, inputs), inputs);
  });

  if (op.gradients.length === 0) return;

  it.each(tests.map((test) => [test.name, test] as const))("gradients: %s", async (_name, test) => {
    const inputs = caseInputs(op, test);
    const slots = differentiable(op, test);
    const dy = randomOutput(op, test, inputs);
    const all = await runCase(device, op, test, inputs, { trainable: slots, dy });
    for (const slot of slots) checkGradient(op, test, inputs, slot, all.gradients.get(slot) as Float32Array, dy);
  });

  it.each(tests.map((test) => [test.name, test] as const))("frozen subsets: %s", async (_name, test) => {
    const inputs = caseInputs(op, test);
    const slots = differentiable(op, test);
    const dy = randomOutput(op, test, inputs);
    const all = await runCase(device, op, test, inputs, { trainable: slots, dy });
    for (const trainable of subsets(slots)) {
      for (const throughActivations of [false, true]) {
        const run = await runCase(device, op, test, inputs, { trainable, dy, throughActivations });
        expect([...run.gradients.keys()].sort(), "gradients of the subset").toEqual([...trainable].sort());
        for (const slot of trainable) {
          const error = relativeError(run.gradients.get(slot) as Float32Array, all.gradients.get(slot) as Float32Array);
          expect(error, `d${slot} with ${trainable.join(", ")} trainable`).toBeLessThan(1e-6);
        }
      }
    }
  });

  it.each(tests.map((test) => [test.name, test] as const))("gradients split over bindings: %s", async (_name, test) => {
    const inputs = caseInputs(op, test);
    const trainable = differentiable(op, test);
    const dy = randomOutput(op, test, inputs);
    const whole = await runCase(device, op, test, inputs, { trainable, dy });
    const split = await runCase(narrow, op, test, inputs, { trainable, dy });
    for (const slot of trainable) {
      const error = relativeError(split.gradients.get(slot) as Float32Array, whole.gradients.get(slot) as Float32Array);
      expect(error, `d${slot}`).toBeLessThan(TOLERANCE);
    }
  });
});
