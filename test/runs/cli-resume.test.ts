import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { RunRecord } from "safetape";
import { runCli } from "../support/cli";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "safetape-resume-"));
  for (const file of ["train.tsv", "dev.tsv"]) {
    const lines = readFileSync(`examples/data/sentiment/${file}`, "utf8").split("\n");
    writeFileSync(join(folder, file), `${lines.slice(0, 25).join("\n")}\n`);
  }
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const commandFor = (out: string): string[] => [
  ...["train", "--model", "examples/model", "--task", "sst2", "--data", folder, "--epochs", "3", "--batch", "8"],
  ...["--max-length", "16", "--rank", "2", "--eval-every", "2", "--json", "--out", out],
  ...["--freeze", '{"policy": "fixed", "freezes": [{"beforeStep": 2, "tensors": ["layer.0."]}]}'],
];

/** Starts the bundle that `runCli` made, and sends it a signal after so many steps. */
function stopped(args: readonly string[], signal: NodeJS.Signals, afterSteps: number) {
  return new Promise<{ code: number | null; stderr: string }>((resolve) => {
    const child = spawn(process.execPath, ["node_modules/.cache/safetape/main.js", ...args]);
    let [stdout, stderr] = ["", ""];
    child.stdout.on("data", (text: Buffer) => {
      stdout += String(text);
      if (!child.killed && stdout.includes(`{"type":"step","step":${afterSteps},`)) child.kill(signal);
    });
    child.stderr.on("data", (text: Buffer) => (stderr += String(text)));
    child.on("close", (code) => resolve({ code, stderr }));
  });
}

const recordOf = (out: string) => {
  const record = JSON.parse(readFileSync(join(out, "run.json"), "utf8")) as RunRecord;
  const { steps, freezes, evaluations, metrics, policy, peakBytes } = record;
  const timeless = steps.map(({ seconds: _, examplesPerSecond: _rate, ...step }) => step);
  return { steps: timeless, freezes, evaluations, metrics, policy, peakBytes };
};

describe("safetape train, stopped by a signal", () => {
  it("saves itself, says how to continue, and ends as if it had not been stopped", async () => {
    const [whole, out] = [join(folder, "whole"), join(folder, "out")];
    const undisturbed = await runCli(commandFor(whole));
    expect(undisturbed.code, undisturbed.stderr).toBe(0);
    const { code, stderr } = await stopped(commandFor(out), "SIGTERM", 3);
    expect(code, stderr).toBe(143);
    expect(stderr).toMatch(/SIGTERM: finishing this step and saving the run/);
    expect(stderr).toMatch(/Stopped after step \d of 9; saved in .*checkpoints\.\n.* --resume to continue/);
    expect(readdirSync(out)).toEqual(["checkpoints"]);
    expect(await runCli(commandFor(out))).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/--resume/) as string,
    });
    const other = await runCli([...commandFor(out), "--resume", "--lr", "0.1"]);
    expect(other.code).toBe(1);
    expect(other.stderr).toMatch(/is of another run: optimizer.learningRate is 0.1, there 0.001/);
    const resumed = await runCli([...commandFor(out), "--resume"]);
    expect(resumed.code, resumed.stderr).toBe(0);
    expect(resumed.stderr).toMatch(/resuming after step \d/);
    expect(readdirSync(out).sort()).toEqual(readdirSync(whole).sort());
    expect(recordOf(out)).toEqual(recordOf(whole));
    const adapter = "adapter_model.safetensors";
    expect(readFileSync(join(out, adapter)).equals(readFileSync(join(whole, adapter)))).toBe(true);
  });
});
