import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { ELSEWHERE } from "../../src/cli/nearest-options";
import { flagOf } from "../../src/cli/options";
import { COMMANDS } from "../../src/cli/commands";
import { configText, withConfigFile } from "../../src/cli/config-file";
import { RECIPES } from "../../src/cli/recipes";
import type { RawOptions } from "../../src/cli/options";
import { runCli } from "../support/cli";
import { failure } from "../support/failure";
import { useFolder } from "../support/folder";
import { parseJson } from "../support/json";

const path = useFolder();
const commandOf = (name: string) => COMMANDS.find((command) => command.name === name)!;

/** The options of a command with a file, after its values were checked. */
async function configured(
  command: string,
  text: string,
  line: RawOptions = {},
  file = "run.yaml",
): Promise<RawOptions> {
  writeFileSync(path(file), text);
  const { options, check } = await withConfigFile({ ...line, config: path(file) }, commandOf(command));
  check();
  return options;
}

describe("a file of options", () => {
  it("has values as the command line gives them, which wins", async () => {
    const text = `
# Comments stay out.
model: models/small
task: sst2
data: /data
out: ../out
lr: 1e-4
max_length: 32          # the same as max-length
warmupRatio: 0.1
targets: [query, value]
layers: [0, 2]
quiet: true
plugin: [a.mjs, b/c.mjs]
freeze: { policy: upper_layers, count: 2 }
`;
    expect(await configured("train", text, { lr: 0.5, quiet: false })).toEqual({
      model: path("models/small"),
      task: "sst2",
      data: "/data",
      out: join(path(), "..", "out"),
      lr: 0.5,
      maxLength: 32,
      warmupRatio: 0.1,
      targets: "query,value",
      layers: "0,2",
      quiet: false,
      plugin: [path("a.mjs"), path("b/c.mjs")],
      freeze: '{"policy":"upper_layers","count":2}',
    });
  });

  it("is JSON as well", async () => {
    const text = '{\n\t"prompt": "a: b", "stop": ["x", "y"],\n\t"beams": 2, "top-p": 0.5, "sample": true\n}\n';
    const options = { prompt: "a: b", stop: ["x", "y"], beams: 2, topP: 0.5, sample: true };
    expect(await configured("generate", text, {}, "run.json")).toEqual(options);
  });

  it("keeps names that look like numbers as they are written", async () => {
    expect(await configured("download", "revision: 12345e6\nout: 0012\n")).toEqual({
      revision: "12345e6",
      out: path("0012"),
    });
  });

  it("takes words in place of paths for words", async () => {
    const text = "scores: [1, 2.5]\nout: here\n";
    expect(await configured("schedule", text)).toEqual({ scores: "1,2.5", out: path("here") });
    expect(await configured("schedule", "scores: run.json\n")).toEqual({ scores: path("run.json") });
    expect(await configured("chat", "chat-template: none\n")).toEqual({ chatTemplate: "none" });
    expect(await configured("analyze", "saved: [a, b]\n")).toEqual({ saved: `${path("a")},${path("b")}` });
  });

  it.each<[string, string, string, string, RegExp]>([
    [
      "an unknown key",
      "train",
      "model: m\nepocs: 3\n",
      ':2: train has no option "epocs".',
      /^The nearest are epochs, /,
    ],
    ["a key of JSON", "train", '{\n\n"modle": "m"}', ':3: train has no option "modle".', /^The nearest are model, /],
    ["a prototype", "train", "__proto__:\n  lr: 1\n", ':1: train has no option "__proto__".', /nearest/],
    ["an option of another command", "doctor", "lr: 1\n", ':1: doctor has no option "lr".', /nearest/],
    ["--config itself", "train", "config: x\n", ':1: train has no option "config".', /nearest/],
    ["a key twice", "train", "lr: 1\nlr: 2\n", ":2: Map keys must be unique.", /./],
    ["a key in two spellings", "train", "max-length: 1\nmax_length: 2\n", ":2: max-length is there twice.", /Remove/],
    ["a text for a number", "train", "task: cola\nlr: fast\n", ':2: lr is "fast".', /^Give a number from 0\.$/],
    ["a truth for a number", "train", "lr: true\n", ":1: lr is true.", /number/],
    ["a text for a truth", "train", "quiet: yes\n", ':1: quiet is "yes".', /^It may be true or false\.$/],
    ["a truth for a text", "train", "model: true\n", ":1: model is true.", /one value/],
    ["half a row", "train", "\n\nbatch: 1.5\n", ":3: batch is 1.5.", /whole number/],
    ["a word that is not one", "train", "adapter: loar\n", ":1: adapter is loar.", /^It may be lora, /],
    ["a list for a value", "train", "model: [a, b]\n", ":1: model is a list.", /one value/],
    ["a mapping for a value", "train", "lr: {a: 1}\n", ":1: lr has a list or a mapping where a value should be.", /./],
    ["nothing", "train", "lr:\nmodel: m\n", ":1: lr has no value.", /remove the line/],
    ["a list", "train", "- lr\n", ":1: the file is no mapping of options.", /option: value/],
    ["YAML that is not", "train", "lr: [1\nbatch: 2\n", ":2: ", /one "option: value" a line/],
    ["an alias", "train", "lr: &a 1\nbatch: *a\n", ":2: *a is an alias.", /Write its value/],
    ["a tag", "train", "lr: 1\nseed: !!js/function x\n", ":2: Unresolved tag: tag:yaml.org,2002:js/function.", /./],
    ["two documents", "train", "lr: 1\n---\nlr: 2\n", ":2: Source contains multiple documents", /./],
    [
      "a misspelt option of a policy",
      "train",
      "lr: 1\nfreeze:\n  policy: safe\n  evry: 2\n",
      ':4: freeze: the policy safe has no option "evry".',
      /^The nearest are every, /,
    ],
    [
      "a wrong option of a policy, in JSON",
      "schedule",
      '{"steps": 4,\n"policy": {"policy": "safe",\n"every": -2}}',
      ":3: policy: every: safe: every is -2.",
      /./,
    ],
    ["a misspelt policy", "train", "freeze: { policy: saef }\n", ":1: freeze is saef.", /^It may be never, safe, /],
    ["a start that is none", "train", "lr: 1\ninit: pizza\n", ":2: init is pizza.", /^It may be true, /],
    ["a policy without a name", "train", "freeze: {count: 2}\n", ':1: freeze is {"count":2}.', /JSON/],
    ["a long file", "train", `# ${"x".repeat(70_000)}`, " has more than 65536 bytes.", /./],
  ])("is refused with file and line: %s", async (_, command, text, fact, remedy) => {
    const error = await failure(() => configured(command, text));
    expect(error.fact.startsWith(`${path("run.yaml")}${fact}`), error.fact).toBe(true);
    expect(error.remedy).toMatch(remedy);
    expect(error.message.split("\n")).toHaveLength(2);
  });

  it("has one name for each option of a command", () => {
    for (const { name, options } of COMMANDS) {
      const keys = Object.values(options).map(({ usage }) => usage.split(" ")[0]!.replaceAll("-", ""));
      expect(new Set(keys).size, name).toBe(keys.length);
    }
  });

  it("is told by the name that it has here where another tool's is given", () => {
    const known = new Set(
      COMMANDS.flatMap(({ options }) => Object.values(options).map((option) => flagOf(option).replace("--", ""))),
    );
    expect(Object.values(ELSEWHERE).filter((name) => !known.has(name))).toEqual([]);
  });

  it("has paths from its own folder wherever the help says that an option is one", () => {
    for (const { options } of COMMANDS) {
      for (const { usage, takes } of Object.values(options)) {
        const kind = /<(?:(file)|(dirs?)|path)>/.exec(usage);
        if (kind) expect(takes.path, usage).toBe(kind[2] === undefined ? "file" : "directory");
      }
    }
  });

  it("is written such that it is read again, with paths from its own folder", async () => {
    mkdirSync(path("runs"));
    for (const { options: ofRecipe } of RECIPES) {
      const given = {
        ...ofRecipe,
        model: path("m"),
        data: "/elsewhere/data",
        out: path("runs"),
        promptText: "a\n b: #\n",
      };
      const all = commandOf("train").complete({ ...given, plugin: [path("p.mjs")] });
      const text = configText(commandOf("train").options, all, path("runs"));
      writeFileSync(path("runs", "config.yaml"), text);
      const { options, check } = await withConfigFile({ config: path("runs/config.yaml") }, commandOf("train"));
      check();
      expect(options).toEqual(all);
      expect(text).toContain("# Learning rate\n");
      expect(text).toMatch(/^model: \.\.\/m$/m);
      expect(text).toMatch(/^out: \.$/m);
    }
  });
});

describe("the program", () => {
  it("plans by a file, whose options the command line overrides, and prints what it would use", async () => {
    const config = join(process.cwd(), "examples/model/config.json");
    writeFileSync(path("plan.yaml"), `config: ${config}\nbatch: 4\nrank: 2\njson: true\n`);
    const peak = async (...args: string[]): Promise<number> => {
      const { code, stdout, stderr } = await runCli(["plan", ...args, "--length", "16"]);
      expect(code, stderr).toBe(0);
      return parseJson<{ peakBytes: number }>(stdout).peakBytes;
    };
    const byLine = (batch: string) => peak("--config", config, "--rank", "2", "--json", "--batch", batch);
    expect(await peak("--config", path("plan.yaml"))).toBe(await byLine("4"));
    expect(await peak("--config", path("plan.yaml"), "--batch", "3")).toBe(await byLine("3"));
    const printed = await runCli(["plan", "--config", path("plan.yaml"), "--batch", "3", "--print-config"]);
    expect(printed.stdout).toMatch(/^# config\.json .*\nconfig: \/.*\n# Rows of a batch.*\nbatch: 3\n/);
    writeFileSync(path("again.yaml"), printed.stdout);
    expect(await peak("--config", path("again.yaml"))).toBe(await byLine("3"));
  });

  it.each<[string, string[], number, RegExp]>([
    ["an unknown key", ["doctor", "--config", "bad.yaml"], 2, /bad\.yaml:1: doctor has no option "lr"\.\nThe nearest/],
    [
      "two files",
      ["train", "--config", "bad.yaml", "--config", "b.yaml"],
      2,
      /--config is .*bad\.yaml and .*b\.yaml\./,
    ],
    [
      "no file",
      ["train", "--config", "nowhere.yaml"],
      2,
      /^--config: there is no file \/.*\/nowhere\.yaml\.\nRelative/,
    ],
    ["a wrong value to print", ["train", "--lr", "-1", "--print-config"], 2, /--lr is -1/],
  ])("refuses in two lines: %s", async (_, args, code, message) => {
    writeFileSync(path("bad.yaml"), "lr: 1\n");
    const result = await runCli(args.map((arg) => (arg.endsWith(".yaml") ? path(arg) : arg)));
    expect(result).toMatchObject({ code, stdout: "" });
    expect(result.stderr).toMatch(message);
    expect(result.stderr.split("\n")).toHaveLength(2);
  });

  it("names options as the file does, with its line, where a command refuses them together", async () => {
    const config = join(process.cwd(), "examples/model/config.json");
    writeFileSync(path("plan.yaml"), `config: ${config}\nadapter: lora\n\nblock_size: 4\ntargets: [valeu]\n`);
    const plan = (...args: string[]) => runCli(["plan", "--config", path("plan.yaml"), ...args]);
    expect(await plan()).toMatchObject({
      code: 2,
      stderr: `${path("plan.yaml")}:4: block_size does not belong to adapter lora.\nLeave it out, or give adapter oft.`,
    });
    const taken = await plan("--no-block-size");
    expect(taken.code).toBe(2);
    expect(taken.stderr).toMatch(/plan\.yaml:5: targets: No module of this bert model is called "valeu"/);
    // What the command line gives is named as there.
    expect((await plan("--block-size", "2")).stderr).toMatch(
      /plan\.yaml:2: --block-size does not belong to adapter lora\./,
    );
    expect((await plan("--no-block-size", "--no-targets")).code).toBe(0);
  });

  it("says which path a file means, and what its paths begin at", async () => {
    mkdirSync(path("folder"));
    writeFileSync(path("folder/run.yaml"), "task: sst2\nmodel: ../models\ndata: .\nout: out\n");
    const { code, stderr } = await runCli(["train", "--config", path("folder/run.yaml")]);
    expect(code).toBe(2);
    expect(stderr).toBe(
      `${path("folder/run.yaml")}:2: model: there is no directory ${path("models")}.\n` +
        `Relative paths in ${path("folder/run.yaml")} begin at its folder, ${path("folder")}.`,
    );
  });

  it("says so of a study, too", async () => {
    const methods = [{ name: "lora", adapter: { kind: "lora" }, learningRate: 1e-3 }];
    const study = { model: "nowhere", tasks: [{ task: "sst2", data: ".", steps: 1 }], methods, seeds: [0] };
    writeFileSync(path("study.json"), JSON.stringify(study));
    const { code, stderr } = await runCli(["study", path("study.json")]);
    expect(code).toBe(2);
    expect(stderr).toBe(
      `${path("study.json")}:1: model: there is no directory ${path("nowhere")}.\n` +
        `Relative paths in ${path("study.json")} begin at its folder, ${path()}.`,
    );
  });

  it("takes back what a file or a recipe sets", async () => {
    const recipe = "safe/bert-base/cola/lora";
    writeFileSync(path("run.yaml"), `recipe: ${recipe}\nmodel: m\ndata: d\nout: o\nrank: 3\nlr: 0.5\n`);
    const printed = async (...args: string[]): Promise<string> => {
      const { code, stdout, stderr } = await runCli(["train", "--config", path("run.yaml"), ...args, "--print-config"]);
      expect(code, stderr).toBe(0);
      return stdout;
    };
    const all = await printed();
    expect(all).toMatch(/^rank: 3$/m);
    expect(all).toMatch(/^freeze: /m);
    const { options } = RECIPES.find(({ name }) => name === recipe)!;
    expect(options.alpha).toBeDefined();
    expect(all).toMatch(new RegExp(`^alpha: ${options.alpha}$`, "m"));
    const less = await printed("--no-rank", "--no-alpha", "--no-lr");
    expect(less).not.toMatch(/^(?:rank|alpha): /m);
    expect(less).toMatch(/^lr: 0\.001$/m);
  });

  it("loads the plugins of a file before it reads the values", async () => {
    writeFileSync(path("own.mjs"), "export const optimizers = { heavy: () => ({}) };");
    const text = "plugin: own.mjs\noptimizer: heavy\nmodel: m\ntask: sst2\ndata: d\nout: o\n";
    writeFileSync(path("run.yaml"), text);
    const { code, stdout, stderr } = await runCli(["train", "--config", path("run.yaml"), "--print-config"]);
    expect(code, stderr).toBe(0);
    expect(stdout).toContain("\noptimizer: heavy\n");
    writeFileSync(path("run.yaml"), text.replace("plugin", "# plugin"));
    expect((await runCli(["train", "--config", path("run.yaml")])).stderr).toMatch(/run\.yaml:2: optimizer is heavy\./);
    expect(readFileSync(path("run.yaml"), "utf8")).toContain("# plugin");
  });
});
