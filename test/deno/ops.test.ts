import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { OPS } from "../../src/testing/ops";
import type { CaseErrors, OpsPage } from "../browser/pages/ops";
import { servePages } from "../browser/support/session";
import type { PageServer } from "../browser/support/session";
import { GRADIENT_TOLERANCE, TOLERANCE } from "../../src/testing/case-reference";
import { isLong } from "../support/long";
import { openInDeno } from "./deno";
import type { DenoPage } from "./deno";

let server: PageServer;
let deno: DenoPage<OpsPage>;

beforeAll(async () => {
  server = await servePages(["ops"]);
  deno = openInDeno(server, "ops");
});
afterAll(async () => {
  deno.close();
  await server.close();
});

/**
 * The first case of each op with the portable kernels, in `npm run test:long` also with variants in new entries; all cases with all variants in
 * `npm run test:deno`.
 */
const ALL = process.env["SAFETAPE_DENO_CASES"] === "all";
const CASES = OPS.flatMap((op) => {
  const cases = op.cases.filter(({ bench }) => !bench);
  return (ALL ? cases : cases.slice(0, 1)).map(({ name }) => [op.name, name] as const);
});

function expectRight({ forward, gradients, tolerance }: CaseErrors, variant: string): void {
  expect(forward.length).toBeGreaterThan(0);
  for (const [slot, error] of forward) expect(error, `${slot}, ${variant}`).toBeLessThan(tolerance ?? TOLERANCE);
  for (const [slot, error] of gradients) expect(error, `d${slot}, ${variant}`).toBeLessThan(GRADIENT_TOLERANCE);
}

describe("ops' cases in Deno, forward and gradients, with the portable kernels and variants that need no feature", () => {
  it.each(CASES)("%s: %s", async (op, name) => {
    const variants = ALL || isLong ? await deno.call("variants", [op, name, !ALL]) : [];
    for (const variant of ["portable", ...variants]) {
      expectRight(await deno.call("run", [op, name, variant]), variant);
    }
  });

  it("leave no bytes in the ledger", async () => {
    expect(await deno.call("liveBytes", [])).toBe(0);
  });
});
