import { describe, expect, it } from "vitest";
import { OPS } from "../../src/testing/ops";
import { caseProblems, NARROW_LIMITS } from "../../src/testing/check-op";
import { useDevice } from "../support/engine";

const device = await useDevice();
const narrow = await useDevice(NARROW_LIMITS);

describe.each(OPS)("$name", (op) => {
  const tests = op.cases.filter((test) => !test.bench);

  it.each(tests)(
    "computes its reference and its gradients, for every trainable subset and split: $name",
    async (test) => {
      const problems = await caseProblems(device, narrow, op, test);
      expect(problems.map(({ text }) => text)).toEqual([]);
    },
  );
});
