import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { expect, it } from "vitest";

it("a training process that is killed goes on to the very bits (four of npm run bench:kills' hundred)", async () => {
  const { stdout } = await promisify(execFile)(process.execPath, ["scripts/run.mjs", "bench/kills.ts", "4", "5"]);
  expect(JSON.parse(stdout.trim().split("\n").at(-1) ?? "")).toMatchObject({ kills: 4, survivedToTheBit: 4 });
});
