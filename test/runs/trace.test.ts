import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import type { ChromeTrace } from "../../src/run/trace";
import { runCli } from "../support/cli";
import { useFolder } from "../support/folder";

const path = useFolder();

it("--trace prints the second step's dispatches and writes them for Perfetto", async () => {
  const out = path("traced");
  const data = [
    "--task",
    "sst2",
    "--data",
    "examples/data/sentiment",
    "--examples",
    "16",
    "--batch",
    "8",
    "--epochs",
    "2",
  ];
  const { stderr, code } = await runCli(["train", "--model", "examples/model", ...data, "--trace", "--out", out]);
  expect(code, stderr).toBe(0);
  expect(stderr).toMatch(
    /^ *[\d.]+ +[\d.]+ +[\d.]+ {2}forward lora_linear\.\w+ \(\S+\) \[\d.*bert\.encoder\.layer\.0/m,
  );
  expect(stderr).toMatch(/By op:[^]*By phase:[^]*in all, \d+ dispatches, by timestamps of the device/);
  // The command has just written it.
  const { traceEvents } = JSON.parse(readFileSync(`${out}/trace.json`, "utf8")) as ChromeTrace;
  expect(new Set(traceEvents.map(({ cat }) => cat))).toEqual(new Set(["forward", "backward", "update"]));
  for (const { ph, ts, dur, pid, tid, name } of traceEvents) {
    expect({ ph, pid }).toEqual({ ph: "X", pid: 1 });
    expect(Math.min(ts, dur)).toBeGreaterThanOrEqual(0);
    expect(tid).toBeGreaterThan(0);
    expect(name).not.toBe("");
  }
});
