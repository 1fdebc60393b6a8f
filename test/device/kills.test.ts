import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { expect, it } from "vitest";

// The moments of kills have nothing to do with the adapter, and a process on SwiftShader takes long to its first step.
it.runIf(process.env["SAFETAPE_ADAPTER"] === "llvmpipe")(
  "a training process that is killed goes on to the very bits (once, on llvmpipe; npm run bench:kills)",
  async () => {
    const { stdout } = await promisify(execFile)(process.execPath, ["scripts/run.mjs", "bench/kills.ts", "4", "5"]);
    expect(JSON.parse(stdout.trim().split("\n").at(-1) ?? "")).toMatchObject({ kills: 4, survivedToTheBit: 4 });
  },
);
