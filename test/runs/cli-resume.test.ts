import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import type { RunRecord } from "safetape/analysis";
import { cliProgram, runCli } from "../support/cli";
import { useFolder } from "../support/folder";
import { readJson } from "../support/json";
import { writeSentiment } from "../support/model-folder";

const path = useFolder();
beforeEach(() => void writeSentiment(path(), 24));

const commandFor = (out: string): string[] => [
  ...["train", "--model", "examples/model", "--task", "sst2", "--data", path(), "--epochs", "3", "--batch", "8"],
  ...["--max-length", "16", "--rank", "2", "--eval-every", "2", "--json", "--out", out],
  ...["--freeze", '{"policy": "fixed", "freezes": [{"beforeStep": 2, "tensors": ["layer.0."]}]}'],
];

/** Starts the program, and sends it a signal after a number of steps. */
async function runUntil(steps: number, signal: NodeJS.Signals, args: readonly string[]) {
  const program = await cliProgram();
  return new Promise<{ code: number | null; stderr: string }>((resolve) => {
    const child = spawn(process.execPath, [program, ...args]);
    let [stdout, stderr] = ["", ""];
    child.stdout.on("data", (text: Buffer) => {
      stdout += String(text);
      if (!child.killed && stdout.includes(`{"type":"step","step":${steps},`)) child.kill(signal);
    });
    child.stderr.on("data", (text: Buffer) => (stderr += String(text)));
    child.on("close", (code) => resolve({ code, stderr }));
  });
}

/** The record of a run without times. */
const recordOf = (out: string) => {
  const record = readJson<RunRecord>(join(out, "run.json"));
  const { steps, freezes, evaluations, metrics, policy, peakBytes } = record;
  const timeless = steps.map(({ seconds: _, examplesPerSecond: _rate, ...step }) => step);
  return { steps: timeless, freezes, evaluations, metrics, policy, peakBytes };
};

describe("safetape train, stopped by a signal", () => {
  it("saves a checkpoint, says how to continue, and ends with the bits of an undisturbed run", async () => {
    const [whole, out] = [path("whole"), path("out")];
    const undisturbed = await runCli(commandFor(whole));
    expect(undisturbed.code, undisturbed.stderr).toBe(0);
    const { code, stderr } = await runUntil(3, "SIGTERM", commandFor(out));
    expect(code, stderr).toBe(143);
    expect(stderr).toMatch(/SIGTERM: finishing this step and saving the run/);
    expect(stderr).toMatch(/Stopped after step \d of 9; saved in .*checkpoints\.\n.* --resume to continue/);
    expect(readdirSync(out)).toEqual(["checkpoints"]);
    expect(await runCli(commandFor(out))).toMatchObject({
      code: 2,
      // Matchers are typed any.
      stderr: expect.stringMatching(/--resume/) as string,
    });
    const other = await runCli([...commandFor(out), "--resume", "--lr", "0.1"]);
    expect(other.code).toBe(1);
    expect(other.stderr).toMatch(/belongs to a different run: optimizer.learningRate is 0.1 here and 0.001 there/);
    const resumed = await runCli([...commandFor(out), "--resume"]);
    expect(resumed.code, resumed.stderr).toBe(0);
    expect(resumed.stderr).toMatch(/resuming after step \d/);
    expect(readdirSync(out).sort()).toEqual(readdirSync(whole).sort());
    expect(recordOf(out)).toEqual(recordOf(whole));
    const adapter = "adapter_model.safetensors";
    expect(readFileSync(join(out, adapter)).equals(readFileSync(join(whole, adapter)))).toBe(true);
  });
});
