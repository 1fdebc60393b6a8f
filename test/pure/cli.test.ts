import { describe, expect, it } from "vitest";
import { lora, plan } from "safetape";
import { adafactor, sgd, sumBytes } from "safetape/engine";
import { makeAdapter } from "safetape/analysis";
import type { Bytes } from "safetape";
import { adviceFor, amountOf } from "../../src/cli/advise/framework";
import type { Advice, Amount } from "../../src/cli/advise/framework";
import { runCli } from "../support/cli";
import { parseJson, readJson } from "../support/json";
import type { Config } from "../support/tiny";

const CONFIG = "examples/model/config.json";
const ANALYZE = [
  "analyze",
  "hessian",
  "--model",
  "examples/model",
  "--task",
  "sst2",
  "--data",
  ".",
  "--out",
  "nowhere",
];
const TRAIN = ["train", "--model", "examples/model", "--task", "sst2", "--data", ".", "--out", "nowhere"];

interface PlanJson {
  readonly peakBytes: number;
  readonly bytes: Bytes;
  readonly afterFreezing: readonly { readonly freezeBelow: number; readonly peakBytes: number }[];
}

interface AdviceJson {
  readonly amount: string;
  readonly advice: readonly (Advice & { readonly source: string; readonly use: string })[];
  readonly bytes: Readonly<
    Record<string, { readonly peakBytes: number; readonly fits: boolean; readonly how?: string }>
  >;
}

describe("safetape plan", () => {
  it("counts the state of an optimizer by name", async () => {
    const read = async (...options: string[]): Promise<Bytes> => {
      const sizes = ["--batch", "2", "--rank", "4"];
      const { stdout } = await runCli(["plan", "--config", CONFIG, ...sizes, "--json", ...options]);
      return parseJson<PlanJson>(stdout).bytes;
    };
    const sizes = { config: readJson<Config>(CONFIG), adapter: lora({ rank: 4 }), batch: 2 };
    expect(await read("--optimizer", "adafactor")).toEqual(plan({ ...sizes, optimizer: adafactor() }).bytes);
    expect(await read("--optimizer", "sgd", "--momentum", "0.9")).toEqual(
      plan({ ...sizes, optimizer: sgd({ momentum: 0.9 }) }).bytes,
    );
  });

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

  it("plans the head and the rows of every kind of task", async () => {
    const read = async (...options: string[]) => {
      const { code, stdout, stderr } = await runCli(["plan", "--config", CONFIG, "--json", ...options]);
      expect(code, stderr).toBe(0);
      return parseJson<{ readonly parameters: number }>(stdout).parameters;
    };
    const [two, three] = [await read("--task", "sst2"), await read("--task", "mnli")];
    const { hidden_size: width } = readJson<{ readonly hidden_size: number }>(CONFIG);
    expect(three - two, "a class more").toBe(width + 1);
    // A head of tags reads every token, without the pooler.
    const tags = await read("--task", "ner", "--labels", "9");
    expect(tags).toBe(two - (width * width + width) + 7 * (width + 1));
  });

  it("does not count spaces around names, nor a last comma", async () => {
    const peaks = ["query,value", " query, value ,"].map(async (targets) => {
      const { stdout } = await runCli(["plan", "--config", CONFIG, "--targets", targets, "--json"]);
      return parseJson<PlanJson>(stdout).peakBytes;
    });
    const query = runCli(["plan", "--config", CONFIG, "--targets", "query", "--json"]);
    const [tight, loose] = await Promise.all(peaks);
    expect(loose).toBe(tight);
    expect(parseJson<PlanJson>((await query).stdout).peakBytes, "one target").toBeLessThan(tight!);
  });

  it("prints text for people by default", async () => {
    const { code, stdout } = await runCli(["plan", "--config", CONFIG, "--adapter", "ia3", "--layers", "later"]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^\d+ parameters in the checkpoint; \d+ trainable\npeak +\d+\.\d\d GB/);
  });
});

describe("safetape advise", () => {
  it("follows the empirical study's framework", () => {
    // Its regimes end at 100, 1,000 and 10,000 examples.
    expect([1, 100, 101, 1000, 1001].map(amountOf)).toEqual(["little", "little", "medium", "medium", "much"]);
    const first = (amount: Amount) => adviceFor(amount).map(({ methods }) => methods[0]);
    expect(first("little")).toEqual(["(IA)3", "full tuning", "BitFit", "(IA)3, later half"]);
    expect(first("medium")).toEqual(["(IA)3", "full tuning", "(IA)3", "(IA)3, later half"]);
    expect(first("much")).toEqual(["full tuning", "(IA)3", "(IA)3", "(IA)3, later half"]);
  });

  it("gives the plan's bytes, and what fits into a memory", async () => {
    const config = readJson<Config>(CONFIG);
    const sizes = { config, batch: 16, length: 40 };
    const full = plan({ ...sizes, adapter: makeAdapter({ kind: "full" }) });
    const bias = plan({ ...sizes, adapter: makeAdapter({ kind: "bitfit", addBiases: true }) });
    // Between BitFit's bytes and those of full tuning, which has no format for weights that learn but f32.
    const memory = String(bias.peakBytes + 1000);
    const args = ["--task", "sst2", "--examples", "5000", "--model", "examples/model", "--length", "40"];
    const { code, stdout, stderr } = await runCli(["advise", ...args, "--memory-budget", memory, "--json"]);
    expect(code, stderr).toBe(0);
    const advised = parseJson<AdviceJson>(stdout);
    expect(advised.bytes["full tuning"]).toMatchObject({ peakBytes: full.peakBytes, fits: false });
    expect(advised.bytes["BitFit"]).toMatchObject({ peakBytes: bias.peakBytes, fits: true });
    expect(advised.amount).toBe("much");
    for (const { reason, source, use } of advised.advice) {
      expect(advised.bytes[use]!.fits || advised.bytes[use]!.how).toBeTruthy();
      expect([reason, source].every((words) => words.length > 20)).toBe(true);
    }
    const text = await runCli(["advise", ...args, "--memory-budget", memory, "--priority", "memory"]);
    expect(text.stdout).toMatch(/^5000 examples are much.*\n\nWhere memory is short: \(IA\)3\n/);
    expect(text.stdout).toMatch(/LoRA, later half needs the fewest bytes: \d+\./);
  });
});

describe("wrong use of the command line", () => {
  it.each<[string, string[], number, RegExp]>([
    ["no command", [], 2, /No command is given/],
    ["an unknown command", ["tune"], 2, /There is no command tune/],
    ["an unknown option", ["plan", "--config", CONFIG, "--colour", "red"], 2, /^plan has no option --colour\./],
    ["a misspelt option", ["plan", "--config", CONFIG, "--bacth", "4"], 2, /--bacth\.\nThe nearest are --batch,/],
    ["an option without its value", ["plan", "--config", CONFIG, "--batch"], 2, /--batch.* value is missing\.\n/],
    ["an argument too many", ["recipes", "one", "two"], 2, /Unused args: `two`\.\n/],
    ["a missing option", ["plan"], 2, /--config is missing/],
    [
      "an unknown task to plan",
      ["plan", "--config", CONFIG, "--task", "sst3"],
      2,
      /^--task is sst3\.\nIt may be cola, /,
    ],
    [
      "labels of a task that has its own",
      ["plan", "--config", CONFIG, "--task", "sst2", "--labels", "3"],
      2,
      /^--labels does/,
    ],
    [
      "packing of full rows",
      ["plan", "--config", CONFIG, "--task", "lm", "--packing"],
      2,
      /^--packing cannot be used for --task lm/,
    ],
    [
      "a missing file",
      ["plan", "--config", "nowhere.json"],
      2,
      /^--config: there is no file \/.*\/nowhere\.json\.\nRelative paths of the command line begin at the current directory, \//,
    ],
    ["a missing model", ["chat", "--model", "nowhere"], 2, /^--model: there is no directory \/.*\/nowhere\./],
    ["a file for a directory", ["chat", "--model", CONFIG], 2, /^--model: .*config\.json is a file/],
    [
      "one of several missing",
      [...ANALYZE, "--saved", "examples,nowhere"],
      2,
      /^--saved: there is no directory .*nowhere/,
    ],
    ["a file that is not JSON", ["plan", "--config", "README.md"], 1, /README\.md/],
    ["a text in place of a number", ["plan", "--config", CONFIG, "--batch", "many"], 2, /--batch is "many"/],
    ["half a row", ["plan", "--config", CONFIG, "--batch", "1.5"], 2, /--batch is 1\.5/],
    ["an unknown adapter", ["plan", "--config", CONFIG, "--adapter", "boft"], 2, /--adapter is boft/],
    [
      "an option of another adapter",
      ["plan", "--config", CONFIG, "--block-size", "4"],
      2,
      /^--block-size does not belong to --adapter lora\.\nLeave it out, or give --adapter oft\./,
    ],
    [
      "a start that is none",
      ["plan", "--config", CONFIG, "--init", "pizza"],
      2,
      /^--init is pizza\.\nIt may be true, /,
    ],
    [
      "options that need another",
      ["plan", "--config", CONFIG, "--add-biases"],
      2,
      /^--add-biases: .*\nGive --bias lora_only or all with --add-biases\./,
    ],
    [
      "an option that is given and taken back",
      ["plan", "--rank", "4", "--no-rank"],
      2,
      /^--rank and --no-rank exclude/,
    ],
    ["a required one that is taken back", ["plan", "--no-config"], 2, /^--config is missing/],
    ["an unknown one that is taken back", ["plan", "--no-rnak"], 2, /^plan has no option --no-rnak\.\n.* --no-rank,/],
    ["an unknown optimizer", ["plan", "--config", CONFIG, "--optimizer", "adagrad"], 2, /--optimizer is adagrad/],
    [
      "momentum of lion",
      ["plan", "--config", CONFIG, "--optimizer", "lion", "--momentum", "0.9"],
      2,
      /--momentum does not/,
    ],
    ["a layer too high", ["plan", "--config", CONFIG, "--layers", "9"], 2, /^--layers: Layer 9 cannot be adapted/],
    ["more frozen layers than there are", ["plan", "--config", CONFIG, "--freeze-below", "5"], 2, /has 4 layers/],
    ["an unknown task to advise on", ["advise", "--task", "cola2", "--examples", "9"], 2, /--task is cola2/],
    ["advice without examples", ["advise", "--task", "cola", "--examples", "0"], 2, /--examples is 0/],
    [
      "a memory without a model",
      ["advise", "--task", "cola", "--examples", "9", "--memory-budget", "8GB"],
      2,
      /needs --model/,
    ],
    [
      "a memory into which nothing fits",
      ["advise", "--task", "cola", "--examples", "9", "--model", "examples/model", "--memory-budget", "1MB"],
      1,
      /No method of the study fits into 1000000 bytes on this model; the least is \d+/,
    ],
    ["a run without a record", ["report", "examples/model"], 1, /no file run\.json/],
    ["no task", ["train", "--model", "examples/model"], 2, /--task is missing/],
    ["too few rates", [...TRAIN, "--lr-search", "1e-3,1e-2"], 2, /--lr-search is 1e-3,1e-2/],
    [
      "transformers' name of an option",
      [...TRAIN, "--learning-rate", "1"],
      2,
      /^train has no .*\nThe nearest are --lr, /,
    ],
    ["PEFT's name of an option", [...TRAIN, "-r", "4"], 2, /^train has no .*\nThe nearest are --rank, /],
    ["beams for no texts", [...TRAIN, "--beams", "2"], 2, /--beams needs --generate/],
    ["a rate and rates", [...TRAIN, "--lr", "1", "--lr-search", "1,2,3,4,5"], 2, /exclude each other/],
    ["an unknown recipe", ["train", "--recipe", "safe/bert-base/cola/loora"], 2, /no recipe .*loora/],
    ["a negative rate", [...TRAIN, "--lr", "-1"], 2, /^--lr is -1\.\nGive a number from 0\.$/m],
    ["a small negative rate", [...TRAIN, "--head-lr", "-.5e-3"], 2, /^--head-lr is -0\.0005\./],
    ["a negative number of rows", ["plan", "--config", CONFIG, "--batch", "-8"], 2, /^--batch is -8\./],
    ["an option that no command has", ["plan", "--config", CONFIG, "--json", "-1"], 2, /-1/],
    [
      "warm-up over three times the steps",
      [...TRAIN, "--warmup-ratio", "3"],
      2,
      /--warmup-ratio is 3\.\nGive a number from 0 to 1\./,
    ],
    [
      "a misspelt target",
      ["plan", "--config", CONFIG, "--targets", "query,valeu"],
      2,
      /^--targets: No module of this bert model is called "valeu"/,
    ],
    ["no target", ["plan", "--config", CONFIG, "--targets", " ,"], 2, /--targets is " ,"/],
    [
      "a table as target",
      ["plan", "--config", CONFIG, "--targets", "query,word_embeddings"],
      2,
      /^--targets: .*target_modules.*word_embeddings, which is no linear/,
    ],
    ["an unknown policy", [...TRAIN, "--freeze", "hard"], 2, /^--freeze is hard\.\nIt may be never, safe, /],
    [
      "a misspelt option of a policy",
      [...TRAIN, "--freeze", '{"policy": "safe", "tuaT": 2}'],
      2,
      /^--freeze: the policy safe has no option "tuaT"\.\nThe nearest are tauT, /,
    ],
    [
      "a wrong option of a policy",
      ["schedule", "--policy", '{"policy": "safe", "every": -2}'],
      2,
      /^--policy: every: safe: every is -2\./,
    ],
    [
      "an option of another policy",
      [...TRAIN, "--freeze", "upper_layers", "--every", "2"],
      2,
      /^--every does not belong/,
    ],
    ["SAFE's option by its flag", [...TRAIN, "--freeze", "safe", "--max-warmup", "1", "--tau-t", "-1"], 2, /^--tau-t /],
    ["a policy that is no JSON", [...TRAIN, "--freeze", "{safe"], 2, /--freeze is \{safe/],
  ])("gives two lines on stderr and nothing on stdout: %s", async (_, args, code, fact) => {
    const result = await runCli(args);
    expect(result).toMatchObject({ code, stdout: "" });
    expect(result.stderr).toMatch(fact);
    expect(result.stderr.split("\n").length, result.stderr).toBe(2);
  });

  it("safetape --help lists the commands", async () => {
    const { code, stdout } = await runCli(["--help"]);
    expect(code).toBe(0);
    for (const command of ["doctor", "plan", "train"]) expect(stdout).toContain(command);
  });
});
