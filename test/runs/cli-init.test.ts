import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { describe, expect, it, vi } from "vitest";
import { createModel, lora } from "safetape";
import { makeAdapter } from "safetape/analysis";
import { TRAIN } from "../../src/cli/flags";
import { initCommand } from "../../src/cli/init";
import type { RawOptions } from "../../src/cli/options";
import { tokensBefore } from "../../src/model/forward";
import { runCli } from "../support/cli";
import { failure } from "../support/failure";
import { useFolder } from "../support/folder";
import { TOKENIZERS, writeModel, writeSentiment } from "../support/model-folder";
import { layerCount, tiny } from "../support/tiny";

const path = useFolder();
const tinyModel = (): Promise<string> =>
  writeModel(path("model"), tiny.bert({ ...layerCount(2), vocab_size: 600 }), { tokenizer: TOKENIZERS.example });

const CHAT_CONFIG = tiny.qwen3({ vocab_size: 340, max_position_embeddings: 512, num_hidden_layers: 2 });

/** A model that writes chats. */
const chatModel = (): Promise<string> => writeModel(path("model"), CHAT_CONFIG, { tokenizer: TOKENIZERS.gpt2 });

/** Chats with an answer each. */
function writeChats(answer: string): void {
  mkdirSync(path("chats"), { recursive: true });
  const messages = [
    { role: "user", content: "the film?" },
    { role: "assistant", content: answer },
  ];
  writeFileSync(path("chats/train.jsonl"), `${JSON.stringify({ messages })}\n`.repeat(2));
}

/** Writes asked.yaml by these answers. @returns the questions. */
async function askedFile(answers: string[], given: RawOptions): Promise<string[]> {
  const asked: string[] = [];
  const say = vi.spyOn(process.stderr, "write").mockReturnValue(true);
  const ask = (question: string): Promise<string> => {
    asked.push(question);
    return Promise.resolve(answers.shift()!);
  };
  try {
    await initCommand(path("asked.yaml"), given, () => undefined, ask);
  } finally {
    say.mockRestore();
  }
  return asked;
}

describe("safetape init", () => {
  it("writes a file that trains as it is, from flags alone", async () => {
    await tinyModel();
    writeSentiment(path(), 16);
    const file = path("run.yaml");
    const given = ["--model", path("model"), "--task", "sst2", "--data", path(), "--out", path("adapter")];
    const result = await runCli(["init", file, ...given, "--yes"]);
    expect(result).toMatchObject({
      code: 0,
      stdout: `${file} is written: safetape train --config ${file}\n`,
      stderr: "",
    });
    const text = readFileSync(file, "utf8");
    expect(text).toContain("# Model directory with its tokenizer\nmodel: model\n");
    expect(text).toContain("# Rank of a low-rank adapter\nrank: 8\n");
    expect(text).toMatch(/^out: adapter$/m);
    expect(text).toMatch(/\n#freeze: safe\n/);
    const run = await runCli(["train", "--config", file, "--quiet"]);
    expect(run.code, run.stderr).toBe(0);
    expect(existsSync(path("adapter/adapter_model.safetensors"))).toBe(true);
    // Every example is an option, with a value that is allowed.
    writeFileSync(file, text.replaceAll(/^#(?=[a-z])/gm, ""));
    const examples = await runCli(["train", "--config", file, "--print-config"]);
    expect(examples.code, examples.stderr).toBe(0);
    expect(examples.stdout).toMatch(/^freeze: safe$/m);
  });

  it("asks for what is not given, again where an answer cannot be right, and plans the budget", async () => {
    const model = await chatModel();
    writeChats("good");
    const answers = [
      path("nowhere"),
      model,
      "",
      path("nowhere"),
      path("chats"),
      "sst2",
      "chat",
      "bitfit",
      "lora",
      "1kB",
      "64MB",
    ];
    const asked = await askedFile(answers, {});
    const [directory, task, adapter, memory] = ["Directory", "Task,", "Adapter", "GPU"];
    expect(asked.map((question) => question.split(" ")[0])).toEqual([
      ...[directory, directory, directory, directory, directory, task, task, adapter, adapter, memory, memory],
    ]);
    expect(asked[5], "what reads the data").toMatch(/\(chat, pairs\): $/);
    expect(asked[7], "what fits the model").not.toMatch(/bitfit/);
    const text = readFileSync(path("asked.yaml"), "utf8");
    expect(text).toMatch(/^task: chat$/m);
    expect(text).toMatch(/^memory-budget: 64MB$/m);
    expect(text).toMatch(/^fit: true$/m);
    expect(text, "what chats do not have").not.toMatch(/split|patience/);
  });

  it.each(["prompt", "prefix_tuning", "p_tuning"])(
    "leaves room for the tokens that %s puts before rows",
    async (adapter) => {
      await tinyModel();
      writeSentiment(path(), 16);
      const positions = createModel(tiny.bert()).maxLength;
      const file = path("room.yaml");
      const given = { model: path("model"), task: "sst2", data: path(), adapter, yes: true };
      await initCommand(file, given, () => undefined);
      const text = readFileSync(file, "utf8");
      const tokens = tokensBefore(makeAdapter({ kind: adapter }));
      expect(tokens).toBeGreaterThan(0);
      expect(text).toContain(`behind the ${tokens} tokens of the adapter`);
      expect(text).toMatch(new RegExp(`^max-length: ${positions - tokens}$`, "m"));
      const run = ["train", "--config", file, "--out", path(adapter), "--epochs", "1", "--quiet"];
      const { code, stderr } = await runCli(run);
      expect(code, stderr).toBe(0);
    },
  );

  it("writes the defaults of train, and says why where it does not", async () => {
    const options = { model: await chatModel(), data: path("chats"), task: "chat", yes: true };
    const valuesOf = async (given: object) => {
      await initCommand(path("run.yaml"), { ...options, overwrite: true, ...given }, () => undefined);
      return readFileSync(path("run.yaml"), "utf8");
    };
    writeChats("good");
    const text = await valuesOf({});
    for (const name of ["epochs", "batch", "maxLength", "lr", "schedule", "seed"] as const) {
      const { usage, help, fallback } = TRAIN[name];
      expect(text).toContain(`# ${help}\n${usage.split(" ")[0]!.slice(2)}: ${fallback}\n`);
    }
    const config = lora().peftConfig(createModel(CHAT_CONFIG));
    expect(text).toContain(`\nrank: ${JSON.stringify(config["r"])}\n`);
    expect(text).toContain(`\nalpha: ${JSON.stringify(config["lora_alpha"])}\n`);
    writeChats("good ".repeat(100));
    const long = await valuesOf({ adapter: "full" });
    expect(long).toMatch(
      /^# Longest row in tokens; the default, 128, would cut some of the first rows\nmax-length: (256|512)$/m,
    );
    expect(long).toMatch(/^# Learning rate; the default, 0\.001, .*\nlr: 0\.00002$/m);
  });

  it("takes the one task that reads the data, and asks for a template where the model's cannot write them", async () => {
    const model = await chatModel();
    const given = { model, data: path("chats"), yes: true };
    mkdirSync(path("chats"), { recursive: true });
    writeFileSync(path("chats/train.jsonl"), '{"prompt": "a", "chosen": "b", "rejected": "c"}\n'.repeat(2));
    const { code, stderr } = await runCli([
      "init",
      path("dpo.yaml"),
      "--model",
      model,
      "--data",
      path("chats"),
      "--yes",
    ]);
    expect(code, stderr).toBe(0);
    expect(stderr).toBe("task dpo, the one that reads these data with this model");
    expect(readFileSync(path("dpo.yaml"), "utf8")).toMatch(/^task: dpo$/m);
    writeChats("good");
    writeFileSync(path("model/chat_template.jinja"), "{{ raise_exception('no chats') }}");
    const refused = initCommand(path("run.yaml"), { ...given, task: "chat" }, () => undefined);
    expect((await failure(refused)).message).toMatch(
      new RegExp(`^train.jsonl in ${path("chats")}, line 1: .*no chats\nGive another --chat-template, or none`),
    );
    const asked = await askedFile([path("model"), "none", "", ""], { ...given, yes: false, task: "chat" });
    expect(asked.map((question) => question.split(" ")[0])).toEqual(["Another", "Another", "Adapter", "GPU"]);
    expect(readFileSync(path("asked.yaml"), "utf8")).toMatch(/^chat-template: none$/m);
  });

  it.each<[string, object, string]>([
    ["a file that is there", {}, "exists.\nGive another file, or --overwrite"],
    ["a task that is none", { overwrite: true, task: "sst3" }, "--task is sst3.\n"],
    ["a budget that is too small", { overwrite: true, memoryBudget: "1kB" }, "this run needs"],
    ["a task of other data", { overwrite: true, task: "dpo" }, "--task dpo: "],
    ["a head that the model lacks", { overwrite: true, task: "cifar10" }, "--task cifar10: "],
  ])("leaves the file as it was: %s", async (_, given, message) => {
    writeSentiment(path(), 16);
    const model = await writeModel(path("model"), tiny.bert({ ...layerCount(2), vocab_size: 600 }), {
      tokenizer: TOKENIZERS.example,
    });
    const file = path("run.yaml");
    writeFileSync(file, "mine");
    const error = await failure(() =>
      initCommand(file, { model, data: path(), task: "sst2", yes: true, ...given }, () => undefined),
    );
    expect(error.message).toContain(message);
    expect(readFileSync(file, "utf8")).toBe("mine");
  });

  it("says that it asks nothing where stdin is no terminal", async () => {
    const { code, stderr } = await runCli(["init", path("run.yaml"), "--task", "sst2"], "");
    expect(code).toBe(2);
    expect(stderr).toBe(
      "stdin is no terminal: nothing is asked, as with --yes\n--model is missing.\n" +
        "Give it, or answer the questions in a terminal.",
    );
  });
});
