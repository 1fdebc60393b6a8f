import { describe, expect, it } from "vitest";
import { lora, plan, sumBytes } from "safetape";
import type { Bytes } from "safetape";
import { runCli } from "../support/cli";
import { parseJson, readJson } from "../support/json";
import type { Config } from "../support/tiny";

const CONFIG = "examples/model/config.json";
const TRAIN = ["train", "--model", "examples/model", "--task", "sst2", "--data", ".", "--out", "nowhere"];

interface PlanJson {
  readonly peakBytes: number;
  readonly bytes: Bytes;
  readonly afterFreezing: readonly { readonly freezeBelow: number; readonly peakBytes: number }[];
}

describe("safetape plan", () => {
  it("prints the plan of the API and of every further freeze as one JSON object", async () => {
    const sizes = ["--batch", "8", "--length", "32", "--rank", "4", "--freeze-below", "2"];
    const { code, stdout } = await runCli(["plan", "--config", CONFIG, ...sizes, "--json"]);
    expect(code).toBe(0);
    const printed = parseJson<PlanJson>(stdout);
    const config = readJson<Config>(CONFIG);
    const { peakBytes, bytes } = plan({ config, adapter: lora({ rank: 4 }), batch: 8, length: 32, freezeBelow: 2 });
    expect(printed).toMatchObject({ peakBytes, bytes });
    expect(sumBytes(printed.bytes), "sum over lifetimes").toBe(peakBytes);
    expect(printed.afterFreezing.map(({ freezeBelow }) => freezeBelow)).toEqual([2, 3, 4]);
    const peaks = printed.afterFreezing.map((after) => after.peakBytes);
    expect(peaks, "peaks, which fall with every freeze").toEqual(peaks.toSorted((a, b) => b - a));
  });

  it("prints text for people by default", async () => {
    const { code, stdout } = await runCli(["plan", "--config", CONFIG, "--adapter", "ia3", "--layers", "later"]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^\d+ parameters in the checkpoint; \d+ trainable\npeak +\d+\.\d\d GB/);
  });
});

describe("wrong use of the command line", () => {
  it.each<[string, string[], number, RegExp]>([
    ["no command", [], 2, /No command is given/],
    ["an unknown command", ["tune"], 2, /There is no command tune/],
    ["an unknown option", ["plan", "--config", CONFIG, "--colour", "red"], 2, /colour/],
    ["a missing option", ["plan"], 2, /--config is missing/],
    ["a missing file", ["plan", "--config", "nowhere.json"], 1, /no file nowhere\.json/],
    ["a file that is not JSON", ["plan", "--config", "README.md"], 1, /README\.md/],
    ["a text in place of a number", ["plan", "--config", CONFIG, "--batch", "many"], 2, /--batch is "many"/],
    ["half a row", ["plan", "--config", CONFIG, "--batch", "1.5"], 2, /--batch is 1\.5/],
    ["an unknown adapter", ["plan", "--config", CONFIG, "--adapter", "dora"], 2, /--adapter is dora/],
    ["an option of another adapter", ["plan", "--config", CONFIG, "--tokens", "4"], 1, /lora has no option tokens/],
    ["a layer too high", ["plan", "--config", CONFIG, "--layers", "9"], 1, /Layer 9 cannot be adapted/],
    ["more frozen layers than there are", ["plan", "--config", CONFIG, "--freeze-below", "5"], 2, /has 4 layers/],
    ["a run without a record", ["report", "examples/model"], 1, /no file run\.json/],
    ["no task", ["train", "--model", "examples/model"], 2, /--task is missing/],
    ["an unknown recipe", ["train", "--recipe", "safe/bert-base/cola/loora"], 2, /no recipe .*loora/],
    ["an unknown policy", [...TRAIN, "--freeze", "hard"], 1, /no policy hard/],
    ["a policy that is no JSON", [...TRAIN, "--freeze", "{safe"], 2, /--freeze is \{safe/],
  ])("gives two lines on stderr and nothing on stdout: %s", async (_, args, code, fact) => {
    const result = await runCli(args);
    expect(result).toMatchObject({ code, stdout: "" });
    expect(result.stderr).toMatch(fact);
    expect(result.stderr.split("\n").length, result.stderr).toBeLessThanOrEqual(2);
  });

  it("safetape --help lists the commands", async () => {
    const { code, stdout } = await runCli(["--help"]);
    expect(code).toBe(0);
    for (const command of ["doctor", "plan", "train"]) expect(stdout).toContain(command);
  });
});
