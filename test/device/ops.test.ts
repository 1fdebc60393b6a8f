import { describe, expect, it } from "vitest";
import type { Attributes, Op, OpCase } from "../../src/op/declaration";
import { OPS } from "../../src/ops/index";
import { CaseReference, GRADIENT_TOLERANCE, TOLERANCE } from "../../src/cli/doctor/cases/case-reference";
import { relativeError } from "../../src/base/relative-error";
import { runCase } from "../../src/cli/doctor/cases/run-case";
import type { CaseRun } from "../../src/cli/doctor/cases/run-case";
import { useDevice } from "../support/engine";

const device = await useDevice();
/** Limits so small that the larger cases are split over bindings and over two grid dimensions. */
const narrow = await useDevice({ bindingBytes: 20480, workgroupsPerDimension: 3 });

function subsets(slots: readonly string[]): string[][] {
  return slots.reduce<string[][]>((all, slot) => [...all, ...all.map((set) => [...set, slot])], [[]]);
}

function checkForward(op: Op, test: OpCase<Attributes>, run: CaseRun, reference: CaseReference): void {
  for (const [slot, error] of reference.forwardErrors(run)) {
    expect(error, `${slot} of ${op.name}`).toBeLessThan(test.tolerance ?? TOLERANCE);
  }
}

describe.each(OPS)("$name", (op) => {
  const tests = op.cases.filter((test) => !test.bench);

  it.each(tests)("computes its reference: $name", async (test) => {
    const reference = new CaseReference(op, test);
    checkForward(op, test, await runCase(device, op, test, reference.inputs), reference);
  });

  it.each(tests)("computes its reference when it is split over bindings: $name", async (test) => {
    const reference = new CaseReference(op, test);
    checkForward(op, test, await runCase(narrow, op, test, reference.inputs), reference);
  });

  if (op.gradients.length === 0) return;

  it.each(tests)("computes the gradients of its reference: $name", async (test) => {
    const reference = new CaseReference(op, test);
    const all = await runCase(device, op, test, reference.inputs, reference.differentiation);
    for (const [slot, error] of reference.gradientErrors(all)) {
      expect(error, `d${slot} of ${op.name}`).toBeLessThan(GRADIENT_TOLERANCE);
    }
  });

  it.each(tests)("computes the same gradients for every trainable subset, and no other: $name", async (test) => {
    const { inputs, trainable: slots, dy } = new CaseReference(op, test);
    const all = await runCase(device, op, test, inputs, { trainable: slots, dy });
    for (const trainable of subsets(slots)) {
      for (const throughActivations of [false, true]) {
        const run = await runCase(device, op, test, inputs, { trainable, dy, throughActivations });
        expect([...run.gradients.keys()].sort(), "gradients of the subset").toEqual([...trainable].sort());
        for (const slot of trainable) {
          const error = relativeError(run.gradients.get(slot)!, all.gradients.get(slot)!);
          expect(error, `d${slot} with ${trainable.join(", ")} trainable`).toBeLessThan(1e-6);
        }
      }
    }
  });

  it.each(tests)("computes the same gradients when it is split over bindings: $name", async (test) => {
    const { inputs, trainable, dy } = new CaseReference(op, test);
    const whole = await runCase(device, op, test, inputs, { trainable, dy });
    const split = await runCase(narrow, op, test, inputs, { trainable, dy });
    for (const slot of trainable) {
      const error = relativeError(split.gradients.get(slot)!, whole.gradients.get(slot)!);
      expect(error, `d${slot}`).toBeLessThan(TOLERANCE);
    }
  });
});
