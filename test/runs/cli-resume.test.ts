import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import type { RunRecord } from "safetape/analysis";
import { cliProgram, runCli } from "../support/cli";
import { bytesOf, eventFiles, eventsIn, fieldsOf, messages, one, scalarsOf, tagOf, texts } from "../support/event-file";
import { useFolder } from "../support/folder";
import { readJson } from "../support/json";
import { writeSentiment } from "../support/model-folder";

const path = useFolder();
beforeEach(() => void writeSentiment(path(), 24));

/** Where a run writes for TensorBoard. */
const boardOf = (out: string): string => `${out}-board`;

const commandFor = (out: string): string[] => [
  ...["train", "--model", "examples/model", "--task", "sst2", "--data", path(), "--epochs", "3", "--batch", "8"],
  ...["--max-length", "16", "--rank", "2", "--eval-every", "2", "--json", "--out", out],
  ...["--tensorboard", boardOf(out)],
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

/** What TensorBoard shows of a run, without times. */
const shownOf = (out: string) =>
  new Map([...scalarsOf(eventsIn(boardOf(out)))].filter(([tag]) => !/speed\/.*second/.test(tag)));

/** The record of a run without times. */
const recordOf = (out: string) => {
  const record = readJson<RunRecord>(join(out, "run.json"));
  const { steps, freezes, evaluations, metrics, policy, peakBytes } = record;
  const timeless = steps.map(({ seconds: _, examplesPerSecond: _rate, ...step }) => step);
  return { steps: timeless, freezes, evaluations, metrics, policy, peakBytes };
};

/** Hyperparameters of a run, the metrics beside them, and how it ended. */
function hparamsOf(out: string) {
  const values = eventsIn(boardOf(out)).flatMap((event) => event.values);
  const contentOf = (tag: string) => {
    const value = values.find((candidate) => tagOf(candidate) === `_hparams_/${tag}`)!;
    return fieldsOf(bytesOf(messages(messages(value, 9)[0]!, 1)[0]!, 2)[0]!);
  };
  const [experiment, start, end] = [
    messages(contentOf("experiment"), 2)[0]!,
    messages(contentOf("session_start_info"), 3)[0]!,
    messages(contentOf("session_end_info"), 4)[0]!,
  ];
  const entries = messages(start, 1).map((entry) => {
    const value = messages(entry, 2)[0]!;
    return [texts(entry, 1)[0]!, one(value, 2) ?? texts(value, 3)[0] ?? one(value, 4)] as const;
  });
  const metrics = messages(experiment, 5).flatMap((metric) => messages(metric, 1).flatMap((name) => texts(name, 2)));
  return { values: Object.fromEntries(entries), metrics, status: one(end, 1) };
}

describe("safetape train, stopped by a signal", () => {
  it("saves a checkpoint, says how to continue, and ends with the bits of an undisturbed run", async () => {
    const [whole, out] = [path("whole"), path("out")];
    const undisturbed = await runCli(commandFor(whole));
    expect(undisturbed.code, undisturbed.stderr).toBe(0);
    const { code, stderr } = await runUntil(3, "SIGTERM", commandFor(out));
    expect(code, stderr).toBe(143);
    expect(stderr).toMatch(/SIGTERM: finishing this step and saving the run/);
    expect(stderr).toMatch(/Stopped after step \d of 9; saved in .*checkpoints\.\n.* --resume to continue/);
    expect(readdirSync(out)).toEqual(["checkpoints", "config.yaml"]);
    expect(await runCli(commandFor(out))).toMatchObject({
      code: 2,
      // Matchers are typed any.
      stderr: expect.stringMatching(/--resume/) as string,
    });
    const other = await runCli([...commandFor(out), "--resume", "--lr", "0.1"]);
    expect(other.code).toBe(2);
    expect(other.stderr).toMatch(/belongs to a different run: --lr is 0.1 here and 0.001 there/);
    const resumed = await runCli([...commandFor(out), "--resume"]);
    expect(resumed.code, resumed.stderr).toBe(0);
    expect(resumed.stderr).toMatch(/resuming after step \d/);
    expect(readdirSync(out).sort()).toEqual(readdirSync(whole).sort());
    expect(recordOf(out)).toEqual(recordOf(whole));
    const adapter = "adapter_model.safetensors";
    expect(readFileSync(join(out, adapter)).equals(readFileSync(join(whole, adapter)))).toBe(true);

    expect([whole, out].map((run) => eventFiles(boardOf(run)).length)).toEqual([1, 2]);
    const [shown, { steps, evaluations, metrics }] = [shownOf(out), recordOf(out)];
    expect(shown).toEqual(shownOf(whole));
    const losses = steps.map(({ step, loss }) => [step, Math.fround(loss)]);
    expect([...shown.get("train/loss")!]).toEqual(losses);
    const total = steps.map(({ bytes: { weight, state, saved, scratch } }) => weight + state + saved + scratch);
    expect([...shown.get("memory/total_bytes")!.values()]).toEqual(total.map((bytes) => Math.fround(bytes)));
    const accuracies = evaluations.map((evaluation) => [evaluation.step, Math.fround(evaluation.metrics["accuracy"]!)]);
    expect([...shown.get("eval/accuracy")!]).toEqual(accuracies);
    expect([...shown.get("final/loss")!]).toEqual([[9, Math.fround(metrics["loss"]!)]]);
    expect(hparamsOf(whole)).toMatchObject({
      values: { rank: 2, batch: 8, task: "sst2" },
      metrics: ["train/loss", "final/accuracy", "final/loss"],
      status: 1,
    });
  });
});
