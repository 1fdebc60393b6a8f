import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { parseJson } from "../support/json";

const run = promisify(execFile);

/**
 * A software adapter takes its buffers from glibc's malloc, which raises its threshold for mappings as large blocks are
 * freed, and then keeps blocks below it in its heap (mallopt(3), M_MMAP_THRESHOLD). With a fixed threshold every large
 * buffer is a mapping, so the size of the process shows what the engine and the driver keep.
 */
const FIXED_THRESHOLD = { MALLOC_MMAP_THRESHOLD_: String(1 << 20), NODE_OPTIONS: "--expose-gc" };

interface Outcome {
  readonly returnedBytes: number;
  readonly shrankBytes: number;
  readonly loss: number;
  readonly liveBytes: number;
}

it("a freeze shrinks the process by at least 90 % of the bytes that the ledger says it returned", async () => {
  const env = { ...process.env, ...FIXED_THRESHOLD };
  const { stdout } = await run(process.execPath, ["scripts/run.mjs", "test/support/resident.ts"], { env });
  const outcome = parseJson<Outcome>(stdout);
  process.stdout.write(
    `ledger returned ${outcome.returnedBytes} bytes, the process shrank by ${outcome.shrankBytes}\n`,
  );
  expect(outcome.returnedBytes, "bytes returned by the freeze").toBeGreaterThan(30e6);
  const share = outcome.shrankBytes / outcome.returnedBytes;
  expect(share, "share of the returned bytes that the process gave back").toBeGreaterThan(0.9);
  expect(outcome.loss, "loss of the step after the freeze").toBeGreaterThan(0);
  expect(outcome.liveBytes, "live bytes after everything is disposed of").toBe(0);
}, 300_000);
