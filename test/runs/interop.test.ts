import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { interopCases, runInterop } from "../../scripts/interop-case";
import { Engine } from "../../src/engine";
import { testDevice } from "../support/device";

const TOLERANCE = 2e-5;
const DATA = "test/interop-data";

let engine: Engine;
beforeAll(async () => {
  engine = new Engine(await testDevice());
});
afterAll(() => {
  expect(engine.ledger.liveBytes, "bytes left in the ledger").toBe(0);
  engine.dispose();
});

describe("adapters that Python PEFT wrote", () => {
  it.each(interopCases(DATA))("$family/$kind gives Python's logits", async ({ family, kind }) => {
    const { error } = await runInterop(engine, DATA, family, kind);
    expect(error, "relative error of the logits").toBeLessThan(TOLERANCE);
  });
});
