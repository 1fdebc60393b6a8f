import { describe, expect, it } from "vitest";
import { OPS } from "../../src/testing/ops";
import { caseProblems, NARROW_LIMITS } from "../../src/testing/check-op";
import { planCase } from "../../src/testing/case-plan";
import { casesOf } from "../../src/testing/choose-cases";
import type { CheckedCase } from "../../src/testing/choose-cases";
import { useDevice } from "../support/engine";
import { isLong } from "../support/long";

const device = await useDevice();
const narrow = await useDevice(NARROW_LIMITS);

/** Cases that run an entry of a kernel, in whatever gradient, that no earlier case of their op runs. */
function withNewEntries(cases: readonly CheckedCase[]): CheckedCase[] {
  const seen = new Set<string>();
  return cases.filter(([op, test]) => {
    const entries = planCase(op, test).launches.map(
      ({ launch }) => `${op.name}: ${launch.kernel.name}.${launch.entry}`,
    );
    const isNew = entries.some((entry) => !seen.has(entry));
    entries.forEach((entry) => seen.add(entry));
    return isNew;
  });
}

/** In `npm test`, the adapter that compiles them more slowly runs fewer cases. */
const isWhole = isLong || process.env["SAFETAPE_ADAPTER"] !== "swiftshader";
const cases = isWhole ? casesOf(OPS) : withNewEntries(casesOf(OPS));

describe.each(OPS)("$name", (op) => {
  it.each(cases.flatMap(([of, test]) => (of === op ? [test] : [])))(
    "computes its reference and its gradients, for every trainable subset and split: $name",
    async (test) => {
      const problems = await caseProblems(device, narrow, op, test);
      expect(problems.map(({ text }) => text)).toEqual([]);
    },
  );
});
