import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { describe, expect, it, vi } from "vitest";
import { initCommand } from "../../src/cli/init";
import { runCli } from "../support/cli";
import { failure } from "../support/failure";
import { useFolder } from "../support/folder";
import { TOKENIZERS, writeModel, writeSentiment } from "../support/model-folder";
import { layerCount, tiny } from "../support/tiny";

const path = useFolder();
const tinyModel = (): Promise<string> =>
  writeModel(path("model"), tiny.bert({ ...layerCount(2), vocab_size: 600 }), { tokenizer: TOKENIZERS.example });

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
    await tinyModel();
    const asked: string[] = [];
    const answers = [path("nowhere"), path("model"), "", "sst3", "sst2", path("model"), "much", "64MB"];
    const say = vi.spyOn(process.stderr, "write").mockReturnValue(true);
    const ask = (question: string): Promise<string> => {
      asked.push(question.split(" ")[0]!);
      return Promise.resolve(answers.shift()!);
    };
    try {
      await initCommand(path("asked.yaml"), { adapter: "bitfit" }, () => undefined, ask);
    } finally {
      say.mockRestore();
    }
    const [directory, task, memory] = ["Directory", "Task", "GPU"];
    expect(asked).toEqual([directory, directory, task, task, task, directory, memory, memory]);
    const text = readFileSync(path("asked.yaml"), "utf8");
    expect(text).toMatch(/^adapter: bitfit$/m);
    expect(text).toMatch(/^memory-budget: 64MB$/m);
    expect(text).toMatch(/^fit: true$/m);
    expect(text).not.toMatch(/^rank/m);
  });

  it.each<[string, object, string]>([
    ["a file that is there", {}, "exists.\nGive another file, or --overwrite"],
    ["no task", { overwrite: true }, "--task is missing.\n"],
    ["a budget that is too small", { overwrite: true, task: "sst2", memoryBudget: "1kB" }, "this run needs"],
    ["a head that the model lacks", { overwrite: true, task: "cifar10" }, "the architecture BertFor"],
  ])("leaves the file as it was: %s", async (_, given, message) => {
    await tinyModel();
    const file = path("run.yaml");
    writeFileSync(file, "mine");
    const options = { model: path("model"), data: path("model"), yes: true, ...given };
    const error = await failure(() => initCommand(file, options, () => undefined));
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
