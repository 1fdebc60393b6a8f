import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { expect, it } from "vitest";

const run = promisify(execFile);

/**
 * A software adapter takes its buffers from glibc's malloc, which keeps freed blocks in its own heap once a block as
 * large was freed before (mallopt(3), M_MMAP_THRESHOLD); a fixed threshold makes every large buffer a mapping of its
 * own, so that what the process keeps is what the engine and the driver keep.
 */
const FIXED_THRESHOLD = { MALLOC_MMAP_THRESHOLD_: String(1 << 20), NODE_OPTIONS: "--expose-gc" };

interface Outcome {
  readonly returnedBytes: number;
  readonly shrankBytes: number;
  readonly loss: number;
  readonly liveBytes: number;
}

it("gives the driver back what the ledger says: the process shrinks by at least 90 % of it", async () => {
  const env = { ...process.env, ...FIXED_THRESHOLD };
  const { stdout } = await run(process.execPath, ["scripts/run.mjs", "test/support/resident.ts"], { env });
  const outcome = JSON.parse(stdout) as Outcome;
  process.stdout.write(
    `ledger returned ${outcome.returnedBytes} bytes, the process shrank by ${outcome.shrankBytes}\n`,
  );
  expect(outcome.returnedBytes, "bytes returned by the freeze").toBeGreaterThan(30e6);
  const share = outcome.shrankBytes / outcome.returnedBytes;
  expect(share, "share of the returned bytes that the process gave back").toBeGreaterThan(0.9);
  expect(outcome.loss, "the run goes on").toBeGreaterThan(0);
  expect(outcome.liveBytes, "bytes live when all is disposed of").toBe(0);
}, 300_000);
