import { expect, it } from "vitest";
import { KernelError } from "safetape/engine";
import { faultText, refuseWrong } from "../../src/cli/doctor/check";
import { checkOps } from "../../src/testing/check-variants";
import type { CheckResult } from "../../src/testing/check-variants";
import { runCli } from "../support/cli";
import { testDevice } from "../support/device";
import { useDevice } from "../support/engine";
import { doubleOp, doubleVariant } from "../support/faulty-op";
import { parseJson } from "../support/json";

const device = await useDevice();
const second = await testDevice();

it("a check finds a wrong variant, one that does not compile, and a wrong gradient, and names their entries", async () => {
  const broken = doubleVariant("broken", {}, "fn forward() { nothing }");
  const variants = [doubleVariant("right", { FACTOR: 2 }), doubleVariant("wrong", { FACTOR: 3 }), broken];
  const { cases, entries, wrong } = await checkOps(device, [doubleOp(variants, 5)]);
  expect(cases).toBe(1);
  expect(entries).toEqual(expect.arrayContaining(["double.forward", "double.grad_x", "double_wrong.forward"]));
  const place = { op: "double", case: "a vector" };
  const gradient = { ...place, entries: ["double.grad_x"], result: "dx" };
  expect(wrong.filter(({ variant }) => variant === "portable")).toMatchObject([{ ...gradient, variant: "portable" }]);
  const [ofY] = wrong.filter(({ result }) => result === "y");
  expect(ofY).toMatchObject({ ...place, variant: "wrong", entries: ["double_wrong.forward"] });
  expect(ofY?.error).toBeCloseTo(0.5, 3);
  const refused = wrong.find(({ variant }) => variant === "broken");
  expect(refused?.entries).toEqual(["double_broken.forward"]);
  expect(refused?.refusal).toMatch(/double_broken/);
  expect(faultText(wrong[0]!)).toMatch(/^wrong {5}double\.grad_x \(portable\), double, "a vector": dx has the error/);
  const result: CheckResult = { cases, entries, variants: [], wrong, leftOut: [], similar: [] };
  expect(() => refuseWrong(result)).toThrow(KernelError);
  expect(() => refuseWrong({ ...result, wrong: [] })).not.toThrow();
});

it("a check leaves out the variants of a case that has taken too long, names them, and says before a case what is to come", async () => {
  const toCome: (readonly string[])[] = [];
  const { wrong, leftOut, variants } = await checkOps(device, [doubleOp([doubleVariant("wrong", { FACTOR: 3 })], 5)], {
    caseMilliseconds: -1,
    beforeCase: (_, cases) => Promise.resolve(void toCome.push(cases)),
  });
  expect(variants).toEqual([]);
  expect(leftOut).toEqual(["double, a vector: wrong"]);
  expect(wrong.every(({ variant }) => variant === "portable")).toBe(true);
  expect(toCome).toEqual([["double, a vector"]]);
});

it("two devices of an adapter check each case once", async () => {
  const ops = [3, 4, 5, 6].map((size) => doubleOp([], size));
  const { cases, wrong } = await checkOps([device, second], ops);
  expect(cases).toBe(4);
  // Each has a wrong gradient.
  expect(wrong.map(({ result }) => result)).toEqual(["dx", "dx", "dx", "dx"]);
});

it("safetape doctor --check compares the ops that it is given, and says that they are right", async () => {
  const { code, stdout, stderr } = await runCli(["doctor", "--check", "--ops", "relu,add", "--json"]);
  expect(code, stderr).toBe(0);
  const result = parseJson<CheckResult & { readonly seconds: number }>(stdout);
  expect(result.wrong).toEqual([]);
  expect(result.entries).toEqual(
    expect.arrayContaining(["add.forward_in_place", "relu.forward_in_place", "relu.grad_x_in_place"]),
  );
  expect(result.entries).toEqual(expect.arrayContaining(["add.forward", "relu.forward"]));
  expect(result.entries.some((entry) => entry.startsWith("relu.grad_x"))).toBe(true);
  expect(result.cases).toBeGreaterThan(3);
});
