import { describe, expect, it } from "vitest";
import { ConfigError } from "../../src/base/errors";
import { add } from "../../src/ops/add";
import { Recorder, recorderOf } from "../../src/tape/tape";
import { failure } from "../support/failure";

describe("the recorder of values", () => {
  it("is found for parameters, inputs and what ops make of them", () => {
    const recorder = new Recorder();
    const [a, b] = [recorder.parameter("a", [2]), recorder.input("b", [2])];
    const y = recorder.apply(add, { a, b }, {});
    for (const value of [a, b, y]) expect(recorderOf(value, undefined)).toBe(recorder);
  });

  it("is refused for values of two recorders, and for none", async () => {
    const [a, b] = [new Recorder().input("a", [1]), new Recorder().input("b", [1])];
    expect((await failure(() => recorderOf(a, b), ConfigError)).fact).toMatch(/different recorders/);
    expect((await failure(() => recorderOf(undefined), ConfigError)).fact).toMatch(/no value of a recorder/);
    expect((await failure(() => recorderOf({ ...a }), ConfigError)).fact).toMatch(/no value of a recorder/);
  });
});
