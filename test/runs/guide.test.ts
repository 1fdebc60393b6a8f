import { execFile } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { basename, join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { Engine } from "safetape";
import type { Op } from "safetape";
import { COMMANDS } from "../../src/cli/commands";
import { configOf } from "../../src/cli/config-file";
import { loadPlugins } from "../../src/cli/plugin/load";
import { studyCommand } from "../../src/cli/study/command";
import { trainCommand } from "../../src/cli/train";
import { cliProgram } from "../support/cli";
import { failure } from "../support/failure";
import { parseJson, readJson } from "../support/json";
import { useDevice } from "../support/engine";
import { TOKENIZERS, writeModel } from "../support/model-folder";
import { sharedData, sharedFile } from "../support/shared-data";
import { tiny } from "../support/tiny";
import { blocksOf, syntaxErrors } from "../support/guide";
import { checkOp } from "../../src/testing/check-op";

/** The `js` blocks of a page of the guide are one program. It runs in a folder that has examples/, as a reader would run it. */
const ROOT = process.cwd();
const GUIDE = join(ROOT, "docs", "guide");
const FOLDER = join(ROOT, "test", ".cache", `guide-${process.env["SAFETAPE_ADAPTER"] ?? "any"}`);
const pages = readdirSync(GUIDE)
  .filter((file) => file.endsWith(".md"))
  .map((file) => ({ name: basename(file, ".md"), blocks: blocksOf(readFileSync(join(GUIDE, file), "utf8")) }));

/** Reasons why blocks of other kinds are not run here. */
const UNRUN: Readonly<Record<string, string>> = {
  "js browser": "belongs on a web page; test/browser runs the published file in Chromium",
  html: "a web page; test/browser runs the published file in Chromium",
  python: "needs torch and peft; test/interop/check.py runs similar code",
  bash: "installs packages or trains for long; its commands and options are checked",
  json: "a study's file; test/pure/study.test.ts reads it",
  yaml: "options of a command, whose names are checked; test/pure/cli-config.test.ts reads such files",
  text: "output",
};

const device = await useDevice();

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const commandNamed = (word: string) => COMMANDS.find(({ name }) => name === word);

/** Commands and options in shell lines that the program does not have. */
function unknownWords(code: string): string[] {
  const lines = code.replaceAll("\\\n", " ").split("\n");
  return lines.flatMap((line) => {
    const [, command, rest = ""] = /^npx safetape (\S+)(.*)$/.exec(line) ?? [];
    if (command === undefined) return [];
    const options = commandNamed(command)?.options;
    if (!options) return [command];
    const flags = new Set(Object.values(options).map(({ usage }) => usage.split(" ", 1)[0]));
    return (rest.match(/--[\w-]+/g) ?? []).filter((flag) => !flags.has(flag.replace(/^--no-/, "--")));
  });
}

/** The program of these sources, which is bundled in the repository's root. */
let program: string;
beforeAll(async () => {
  program = await cliProgram();
  rmSync(FOLDER, { recursive: true, force: true });
  mkdirSync(FOLDER, { recursive: true });
  symlinkSync(join(ROOT, "examples"), join(FOLDER, "examples"), "dir");
  process.chdir(FOLDER);
}, 120_000);
afterAll(() => {
  process.chdir(ROOT);
  rmSync(FOLDER, { recursive: true, force: true });
});

const CHATML = `{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}`;

/** Where there is none, a small tokenizer of the same kind takes its place. */
const QWEN = sharedData("tokenizers/qwen3");

/** A small model that the commands of the page chat take, with Qwen's tokenizer and chat template. */
async function writeChatModel(): Promise<void> {
  const sizes = { vocab_size: QWEN === undefined ? 340 : 151936, max_position_embeddings: 512 };
  await writeModel("model", tiny.qwen2(sizes), QWEN === undefined ? { tokenizer: join(ROOT, TOKENIZERS.gpt2) } : {});
  const templates = sharedData("chat_templates");
  const template =
    QWEN === undefined || templates === undefined ? CHATML : sharedFile(templates, "qwen2.5-instruct.jinja");
  writeFileSync("model/chat_template.jinja", template);
  if (QWEN === undefined) return;
  for (const file of ["tokenizer.json", "tokenizer_config.json"])
    writeFileSync(`model/${file}`, sharedFile(QWEN, file));
}

/** What the commands of a page need beside it. */
const BEFORE_COMMANDS: Readonly<Record<string, () => Promise<void>>> = { chat: writeChatModel };

const commandRuns = new Map<string, Promise<string>>();

/** Runs the commands of a page on the first call, as a shell does; gives what they print. */
function runCommands(name: string): Promise<string> {
  const started = commandRuns.get(name) ?? startCommands(name);
  commandRuns.set(name, started);
  return started;
}

async function startCommands(name: string): Promise<string> {
  const code = blocksMarked(name, "bash", "run");
  if (code === "") return "";
  await BEFORE_COMMANDS[name]?.();
  // In place of the published one.
  mkdirSync("bin", { recursive: true });
  writeFileSync("bin/npx", `#!/bin/sh\nshift\nexec "${process.execPath}" "${program}" "$@"\n`, {
    mode: 0o755,
  });
  const env = { ...process.env, PATH: `${join(FOLDER, "bin")}:${process.env["PATH"] ?? ""}` };
  return (await promisify(execFile)("bash", ["-e", "-o", "pipefail", "-c", code], { env })).stdout;
}

const blocksMarked = (name: string, wanted: string, mark: string): string =>
  pages
    .find((page) => page.name === name)!
    .blocks.filter((block) => block.language === wanted && block.mark === mark)
    .map(({ code }) => code)
    .join("\n");

const programs = new Map<string, Promise<unknown>>();

/** Runs the program of a page on the first call; gives its exports. */
function run(name: string): Promise<unknown> {
  const started = programs.get(name);
  if (started) return started;
  const path = join(FOLDER, `${name}.mjs`);
  writeFileSync(path, blocksMarked(name, "js", ""));
  const running = import(/* @vite-ignore */ path);
  programs.set(name, running);
  return running;
}

describe.each(pages)("the guide's page $name", ({ name, blocks }) => {
  const isProgram = blocks.some(({ language, mark }) => language === "js" && mark === "");
  it.runIf(isProgram)(
    isProgram ? "runs" : "runs (skipped: it has no program)",
    async () => {
      await runCommands(name);
      const log = vi.spyOn(console, "log").mockImplementation(() => undefined);
      try {
        await run(name);
      } finally {
        log.mockRestore();
      }
    },
    300_000,
  );

  it("has only blocks that are run, or of a kind with a reason not to be", () => {
    for (const block of blocks) {
      const kind = `${block.language} ${block.mark}`.trim();
      if (kind === "bash run") expect(unknownWords(block.code), `line ${block.line}`).toEqual([]);
      if (kind === "js" || kind === "bash run") continue;
      expect(UNRUN[kind], `line ${block.line} of ${name}.md: a block of kind "${kind}"`).toBeDefined();
      if (["js browser", "html"].includes(kind)) expect(syntaxErrors(block), `line ${block.line}`).toEqual([]);
      if (kind === "yaml") expect(() => configOf(bytes(block.code), name, commandNamed("train")!)).not.toThrow();
      if (kind === "bash") expect(unknownWords(block.code), `line ${block.line}`).toEqual([]);
      // oxlint-disable-next-line no-console -- reports what is not covered
      console.info(`${name}.md:${block.line} is not run: ${UNRUN[kind]}`);
    }
  });
});

describe("the commands from chats to a model that answers", () => {
  const by =
    QWEN === undefined ? "a small tokenizer (there is no ../shared/data beside this checkout)" : "Qwen's tokenizer";
  it(`leave an adapter, a merged model and both as GGUF, by ${by}`, async () => {
    const printed = await runCommands("chat");
    expect(printed).toMatch(/perplexity \d/);
    expect(readdirSync("writer")).toEqual(
      expect.arrayContaining([
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "config.yaml",
        "run.json",
      ]),
    );
    const model = ["README.md", "chat_template.jinja", "config.json", "model.safetensors", "tokenizer.json"];
    expect(readdirSync("merged-writer")).toEqual(expect.arrayContaining(model));
    for (const file of ["writer.gguf", "merged-writer.gguf"]) {
      expect(readFileSync(file).subarray(0, 4).toString()).toBe("GGUF");
    }
  }, 300_000);
});

describe("the op that a reader of the guide writes", () => {
  it("computes its float64 reference, forward and backward", async () => {
    // The page exports this op.
    const { softSign } = (await run("op")) as { softSign: Op };
    expect(await checkOp(new Engine(device), softSign)).toEqual([]);
  });
});

describe("the plugin that a reader of the guide writes", () => {
  const writeLines = (): void => {
    const lines = Array.from({ length: 40 }, (_, i) => `${i % 2} the film is ${i % 2 ? "good" : "bad"}`);
    writeFileSync("lines.txt", `${lines.join("\n")}\n`);
  };

  it("is chosen by name on the command line: a task, a loss, an optimizer, a schedule, a policy and a metric", async () => {
    await run("plugin");
    writeLines();
    const named = { task: "lines", loss: "robust", optimizer: "heavy", schedule: "trapezoid", metric: "worstClass" };
    const posts: { step?: number; scalars?: Record<string, number>; ended?: boolean }[] = [];
    const server = createServer((request, answer) => {
      request.on("data", (body: Buffer) => void posts.push(parseJson(body.toString())));
      request.on("end", () => answer.end());
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    // A server that listens on a port has an address of this form.
    vi.stubEnv("TRACKER", `http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    const settings = { model: "examples/model", data: "lines.txt", out: "plugged", epochs: 1, reportTo: "posted" };
    const freeze = '{"policy": "byStep", "every": 2}';
    const given = { ...named, ...settings, freeze, json: true };
    const forget = await loadPlugins(["plugin.mjs"]);
    const printed: string[] = [];
    try {
      await trainCommand({ ...given, quiet: true }, (line) => void printed.push(line));
    } finally {
      forget();
      server.close();
      vi.unstubAllEnvs();
    }
    const { metrics } = parseJson<{ metrics: Record<string, number> }>(printed.at(-1)!);
    expect(Object.keys(metrics)).toEqual(["worstClass", "accuracy", "loss"]);
    expect(metrics["worstClass"]).toBeLessThanOrEqual(metrics["accuracy"]!);
    // The distance of probabilities of two classes is at most 2.
    expect(metrics["loss"]).toBeLessThan(2);
    const losses = posts.filter(({ scalars = {} }) => "train/loss" in scalars);
    expect(losses.map(({ step }) => step)).toEqual([1, 2, 3, 4, 5]);
    expect(posts.at(-2)!.scalars).toMatchObject({ "final/worstClass": metrics["worstClass"] });
    expect(posts.at(-1)).toMatchObject({ ended: true, options: { loss: "robust" } });
    const { options, freezes } = readJson<{ options: object; freezes: { layers: number[] }[] }>("plugged/run.json");
    expect(options).toMatchObject(named);
    expect(freezes.map(({ layers }) => layers)).toEqual([[0], [1]]);
  });

  it("is chosen by name in a study", async () => {
    await run("plugin");
    writeLines();
    const own = { name: "own", optimizer: "heavy", loss: "robust", learningRate: 0.01 };
    const study = {
      model: "examples/model",
      tasks: [{ task: "lines", data: "lines.txt", batch: 8, steps: 4 }],
      seeds: [1],
      schedule: "trapezoid",
      metric: "worstClass",
      methods: [{ ...own, adapter: { kind: "lora", rank: 2 }, freeze: { policy: "byStep", every: 2 } }],
    };
    writeFileSync("plugged.json", JSON.stringify(study));
    const start = () => studyCommand("plugged.json", { json: true }, () => undefined);
    expect((await failure(start)).message).toBe(
      "plugged.json:1: there is no schedule trapezoid.\nGive linear, cosine, constant, or the --plugin that exports it.",
    );
    const forget = await loadPlugins(["plugin.mjs"]);
    try {
      await start();
    } finally {
      forget();
    }
    const { result, settings } = readJson<{
      result: { metrics: Record<string, number>; freezes: { step: number; layers: number[] }[] };
      settings: object;
    }>("plugged-output/lines--own--1.json");
    expect(Object.keys(result.metrics)).toEqual(["worstClass", "accuracy", "loss"]);
    expect(result.freezes.map(({ step, layers }) => [step, ...layers])).toEqual([
      [2, 0],
      [4, 1],
    ]);
    expect(result.metrics["loss"], "of probabilities, not of their logarithms").toBeLessThan(2);
    expect(settings).toMatchObject({ schedule: "trapezoid", metric: "worstClass", method: own });
  });

  it.each<[string, object]>([
    ["optimizer", { optimizer: "light" }],
    ["loss", { loss: "light" }],
  ])("is missed by a method of a study that names another %s", async (kind, method) => {
    const methods = [{ name: "own", adapter: { kind: "lora" }, learningRate: 0.01, ...method }];
    const tasks = [{ task: "sst2", data: "examples/data/sentiment", steps: 1 }];
    writeFileSync("light.json", JSON.stringify({ model: "examples/model", tasks, seeds: [1], methods }));
    const error = await failure(() => studyCommand("light.json", {}, () => undefined));
    expect(error.message).toMatch(new RegExp(`^light\\.json:1: there is no ${kind} light\\.\\nGive .*--plugin`));
  });

  it("is refused before the training where its metric gives no number", async () => {
    writeFileSync("words.mjs", 'export const metrics = { words: () => "much" };');
    writeFileSync("few.txt", "0 bad\n1 good\n0 bad\n");
    const given = { model: "examples/model", task: "lines", data: "few.txt", out: "refused", metric: "words" };
    const forget = await loadPlugins(["plugin.mjs", "words.mjs"]);
    try {
      const error = await failure(() => trainCommand({ ...given, quiet: true }, () => undefined));
      expect(error.message).toBe("The metric words gives much.\nReturn a number.");
      expect(readdirSync(".")).not.toContain("refused");
    } finally {
      forget();
    }
  });
});
