import { expect, it } from "vitest";
import { DEFAULT_LIMITS } from "../../src/op/limits";
import { OPS } from "../../src/testing/ops";
import { planCase } from "../../src/testing/case-plan";
import { casesOf, chooseCases } from "../../src/testing/choose-cases";
import type { CheckedCase } from "../../src/testing/choose-cases";
import { VariantWalk } from "../../src/testing/variant-walk";

const software = { vendor: "", isSoftware: true, subgroup: 8 };
const walk = new VariantWalk(software, false, "usual");
const device = { handle: { limits: { maxStorageBuffersPerShaderStage: 8 } }, limits: DEFAULT_LIMITS };
const { chosen, leftOut } = chooseCases(OPS, device, walk);

/** Every entry that cases run, and every value of a constant with which they run it, but sizes of heads. */
function shown(cases: readonly CheckedCase[]): Set<string> {
  const launches = cases.flatMap(([op, test]) => planCase(op, test, DEFAULT_LIMITS).launches);
  return new Set(
    launches.flatMap(({ launch: { kernel, entry, constants = {} } }) => [
      `${kernel.name}.${entry}`,
      ...Object.entries(constants).flatMap(([name, value]) =>
        name === "HEAD" ? [] : [`${kernel.name}, ${name} = ${value}`],
      ),
    ]),
  );
}

it("a check on a software adapter runs each op, every entry and every value of a constant but sizes of heads", () => {
  expect(new Set(chosen.map(([op]) => op))).toEqual(new Set(OPS));
  const [all, ofChosen] = [shown(casesOf(OPS)), shown(chosen)];
  expect([...all].filter((each) => !ofChosen.has(each))).toEqual([]);
  expect(chosen.length + leftOut.length).toBe(casesOf(OPS).length);
});

it("a check on a software adapter leaves out cases of attention and products alone", () => {
  const kernels = leftOut.map(([op, test]) => planCase(op, test).launches.map(({ launch }) => launch.kernel.name));
  expect(leftOut.length).toBeGreaterThan(0);
  expect(kernels.filter((names) => !names.some((name) => /^(attention|product)$/.test(name)))).toEqual([]);
});
