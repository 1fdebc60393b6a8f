import { describe, expect, it } from "vitest";
import { interopCases, runInterop } from "../../scripts/interop-case";
import { useEngine } from "../support/engine";

const TOLERANCE = 2e-5;
const DATA = "test/interop-data";

const engine = await useEngine();

describe("adapters that Python PEFT wrote", () => {
  it.each(interopCases(DATA))("give the logits of Python: $family/$kind", async ({ family, kind }) => {
    const { error } = await runInterop(engine, DATA, family, kind);
    expect(error, "relative error of the logits").toBeLessThan(TOLERANCE);
  });
});
