import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { jsonLines } from "../support/cli";

it("a training process that is killed resumes and ends with the same bits (2 of the 100 kills of npm run bench:kills)", async () => {
  const { stdout } = await promisify(execFile)(process.execPath, ["scripts/run.mjs", "bench/kills.ts", "2", "5"]);
  expect(jsonLines(stdout).at(-1)).toMatchObject({ kills: 2, survivedToTheBit: 2 });
});
