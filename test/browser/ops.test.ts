import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { OPS } from "../../src/testing/ops";
import { GRADIENT_TOLERANCE, TOLERANCE } from "../../src/testing/case-reference";
import type { OpsPage } from "./pages/ops";
import { caller, startSession } from "./support/session";
import type { Caller, Session } from "./support/session";

let session: Session;
let call: Caller<OpsPage>;

beforeAll(async () => {
  session = await startSession(["ops"]);
  call = caller<OpsPage>(await session.open("ops"));
});
afterAll(() => session.close());

/** The first case of each op, or all cases in `npm run bench:browser`. */
const ALL = process.env["SAFETAPE_BROWSER_CASES"] === "all";
const CASES = OPS.flatMap((op) => {
  const cases = op.cases.filter(({ bench }) => !bench);
  return (ALL ? cases : cases.slice(0, 1)).map(({ name }) => [op.name, name] as const);
});

describe("ops' cases in Chromium, forward and gradients", () => {
  it.each(CASES)("%s: %s", async (op, name) => {
    const { forward, gradients, tolerance } = await call("run", [op, name]);
    expect(forward.length).toBeGreaterThan(0);
    for (const [slot, error] of forward) expect(error, slot).toBeLessThan(tolerance ?? TOLERANCE);
    for (const [slot, error] of gradients) expect(error, `d${slot}`).toBeLessThan(GRADIENT_TOLERANCE);
  });

  it("leaves no bytes in the ledger", async () => {
    expect(await call("liveBytes", [])).toBe(0);
  });
});
