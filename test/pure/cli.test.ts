import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { LIFETIMES, lora, plan } from "safetape";
import type { Bytes } from "safetape";
import { runCli } from "../support/cli";

const CONFIG = "examples/model/config.json";
const TRAIN = ["train", "--model", "examples/model", "--task", "sst2", "--data", ".", "--out", "nowhere"];

interface PlanJson {
  readonly peakBytes: number;
  readonly bytes: Bytes;
  readonly afterFreezing: readonly { readonly freezeBelow: number; readonly peakBytes: number }[];
}

describe("safetape plan", () => {
  it("prints one JSON object: the API's plan, by lifetime, and every further freeze", async () => {
    const sizes = ["--batch", "8", "--length", "32", "--rank", "4", "--freeze-below", "2"];
    const { code, stdout } = await runCli(["plan", "--config", CONFIG, ...sizes, "--json"]);
    expect(code).toBe(0);
    const told = JSON.parse(stdout) as PlanJson;
    const config = JSON.parse(readFileSync(CONFIG, "utf8")) as Record<string, unknown>;
    const { peakBytes, bytes } = plan({ config, adapter: lora({ rank: 4 }), batch: 8, length: 32, freezeBelow: 2 });
    expect(told).toMatchObject({ peakBytes, bytes });
    expect(
      LIFETIMES.reduce((sum, lifetime) => sum + told.bytes[lifetime], 0),
      "sum over lifetimes",
    ).toBe(peakBytes);
    expect(told.afterFreezing.map(({ freezeBelow }) => freezeBelow)).toEqual([2, 3, 4]);
    const peaks = told.afterFreezing.map((after) => after.peakBytes);
    expect(peaks, "less with every freeze").toEqual([...peaks].sort((a, b) => b - a));
  });

  it("answers for people, too", async () => {
    const { code, stdout } = await runCli(["plan", "--config", CONFIG, "--adapter", "ia3", "--layers", "later"]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^\d+ parameters in the checkpoint; \d+ trainable\npeak +\d+\.\d\d GB/);
  });
});

describe("wrong use", () => {
  it.each<[string, string[], number, RegExp]>([
    ["no command", [], 2, /No command is given/],
    ["an unknown command", ["tune"], 2, /There is no command tune/],
    ["an unknown option", ["plan", "--config", CONFIG, "--colour", "red"], 2, /colour/],
    ["a missing option", ["plan"], 2, /--config is missing/],
    ["a missing file", ["plan", "--config", "nowhere.json"], 1, /no file nowhere\.json/],
    ["a file that is no JSON", ["plan", "--config", "README.md"], 1, /README\.md/],
    ["a number that is none", ["plan", "--config", CONFIG, "--batch", "many"], 2, /--batch is "many"/],
    ["half a row", ["plan", "--config", CONFIG, "--batch", "1.5"], 2, /--batch is 1\.5/],
    ["an unknown adapter", ["plan", "--config", CONFIG, "--adapter", "dora"], 2, /--adapter is dora/],
    ["an option of another adapter", ["plan", "--config", CONFIG, "--tokens", "4"], 1, /lora has no option tokens/],
    ["a layer too high", ["plan", "--config", CONFIG, "--layers", "9"], 1, /Layer 9 is to be adapted/],
    ["more frozen layers than there are", ["plan", "--config", CONFIG, "--freeze-below", "5"], 2, /has 4 layers/],
    ["a run without a record", ["report", "examples/model"], 1, /no file run\.json/],
    ["no task", ["train", "--model", "examples/model"], 2, /--task is missing/],
    ["an unknown policy", [...TRAIN, "--freeze", "hard"], 1, /no policy hard/],
    ["a policy that is no JSON", [...TRAIN, "--freeze", "{safe"], 2, /--freeze is \{safe/],
  ])("%s: two lines on stderr, nothing on stdout", async (_, args, code, fact) => {
    const result = await runCli(args);
    expect(result).toMatchObject({ code, stdout: "" });
    expect(result.stderr).toMatch(fact);
    expect(result.stderr.split("\n").length, result.stderr).toBeLessThanOrEqual(2);
  });

  it("--help lists the commands", async () => {
    const { code, stdout } = await runCli(["--help"]);
    expect(code).toBe(0);
    for (const command of ["doctor", "plan", "train"]) expect(stdout).toContain(command);
  });
});
