import { readdirSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { GOLDEN_LIMITS, runGolden } from "../../scripts/golden-case";
import type { GoldenErrors } from "../../scripts/golden-case";
import { Engine } from "../../src/engine";
import { openDirectory } from "../../src/node/directory";
import { testDevice } from "../support/device";

const CASES = readdirSync("test/golden");

let engine: Engine;
beforeAll(async () => {
  engine = new Engine(await testDevice());
});
afterAll(() => {
  expect(engine.ledger.liveBytes, "bytes left in the ledger").toBe(0);
  engine.dispose();
});

describe("golden runs of float64 PyTorch", () => {
  it.each(CASES)("%s", async (name) => {
    const { errors } = await runGolden(engine, await openDirectory(`test/golden/${name}`));
    for (const key of Object.keys(GOLDEN_LIMITS) as (keyof GoldenErrors)[]) {
      expect(errors[key], `relative error of ${key} in ${name}`).toBeLessThanOrEqual(GOLDEN_LIMITS[key]);
    }
  });
});
