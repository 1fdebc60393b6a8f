import { describe, expect, it } from "vitest";
import { OPS } from "../../src/testing/ops";
import { Recorder } from "../../src/tape/tape";
import { failure } from "../support/failure";

const cases = OPS.flatMap((op) => op.malformed.map((test) => [`${op.name}: ${test.name}`, op, test] as const));

describe("malformed inputs", () => {
  // An op with one required input accepts any shape.
  const withSeveralInputs = OPS.filter((op) => Object.values(op.inputs).filter(({ optional }) => !optional).length > 1);
  it.each(withSeveralInputs.map((op) => [op.name, op] as const))("are declared by %s", (_name, op) => {
    expect(op.malformed.length, "number of declared cases").toBeGreaterThan(0);
  });

  it.each(cases)("are refused: %s", async (_name, op, test) => {
    const recorder = new Recorder();
    const inputs = Object.fromEntries(
      Object.entries(test.inputs).map(([slot, { shape, dtype }]) => [slot, recorder.input(slot, shape, dtype)]),
    );
    const { fact, remedy, message } = await failure(() => recorder.record(op, inputs, test.attributes));
    expect(message).toMatch(test.message);
    expect([fact.split("\n").length, remedy.split("\n").length], "lines of the fact and of the remedy").toEqual([1, 1]);
    expect(remedy.length, "length of the remedy").toBeGreaterThan(0);
    expect(recorder.nodes, "recorded nodes").toEqual([]);
  });
});
