import { describe, expect, it } from "vitest";
import { SafetapeError } from "../../src/base/errors";
import { OPS } from "../../src/ops/index";
import { Recorder } from "../../src/tape/tape";

const cases = OPS.flatMap((op) => op.malformed.map((test) => [`${op.name}: ${test.name}`, op, test] as const));

describe("malformed inputs", () => {
  // An op of one tensor takes any shape.
  const several = OPS.filter((op) => Object.values(op.inputs).filter(({ optional }) => !optional).length > 1);
  it.each(several.map((op) => [op.name, op] as const))("%s has some", (_name, op) => {
    expect(op.malformed.length, "malformed cases declared").toBeGreaterThan(0);
  });

  it.each(cases)("%s", (_name, op, test) => {
    const recorder = new Recorder();
    const inputs = Object.fromEntries(
      Object.entries(test.inputs).map(([slot, { shape, dtype }]) => [slot, recorder.input(slot, shape, dtype)]),
    );
    let thrown: unknown;
    try {
      recorder.record(op, inputs, test.attributes);
    } catch (error) {
      thrown = error;
    }
    expect(thrown, "what was thrown").toBeInstanceOf(SafetapeError);
    const { fact, remedy, message } = thrown as SafetapeError;
    expect(message).toMatch(test.message);
    expect([fact.split("\n").length, remedy.split("\n").length], "one line of fact, one of remedy").toEqual([1, 1]);
    expect(remedy.length, "the remedy").toBeGreaterThan(0);
    expect(recorder.nodes, "nothing is recorded").toEqual([]);
  });
});
