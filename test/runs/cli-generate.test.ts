import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { GENERATE } from "../../src/cli/flags";
import { generateCommand } from "../../src/cli/generate";
import { withFallbacks } from "../../src/cli/options";
import { loadPlugins } from "../../src/cli/plugin/load";
import { jsonLines, runCli } from "../support/cli";
import { useFolder } from "../support/folder";
import { parseJson, readJson } from "../support/json";
import { TOKENIZERS, writeModel } from "../support/model-folder";
import { tiny } from "../support/tiny";

const path = useFolder();

/** A small GPT-2 with a tokenizer, for texts of 64 tokens. */
const smallGpt2 = (): Promise<string> =>
  writeModel(path("gpt2"), tiny.gpt2({ vocab_size: 340, n_positions: 64, n_layer: 2 }), {
    tokenizer: TOKENIZERS.gpt2,
  });

describe("safetape generate", () => {
  const CSV = `mr,ref\n"film[dull]","the film is dull"\n"film[dull]","a dull film"\n"film[good]","the film is good"\n`;

  it("writes texts from a trained adapter, with the scores that safetape train gave them", async () => {
    const model = await smallGpt2();
    for (const file of ["trainset.csv", "devset.csv"]) writeFileSync(path(file), CSV);
    const out = path("out");
    const search = ["--beams", "3", "--length-penalty", "0.8", "--unique-ngram", "4", "--max-new-tokens", "8"];
    const data = ["--task", "e2e", "--data", path(), "--max-length", "48", "--epochs", "2", "--batch", "2"];
    const trained = await runCli(["train", "--model", model, ...data, "--generate", ...search, "--out", out, "--json"]);
    expect(trained.code, trained.stderr).toBe(0);
    const { metrics } = jsonLines<{ metrics: Record<string, number> }>(trained.stdout).at(-1)!;
    expect(Object.keys(metrics).slice(0, 6)).toEqual([
      "bleu",
      "nist",
      "meteorVariant",
      "rougeL",
      "cider",
      "perplexity",
    ]);
    const args = ["--adapter", out, "--e2e", path("devset.csv"), "--out", path("texts"), ...search, "--json"];
    const written = await runCli(["generate", "--model", model, ...args]);
    expect(written.code, written.stderr).toBe(0);
    const { scores } = parseJson<{ scores: Record<string, number> }>(written.stdout);
    for (const [name, value] of Object.entries(scores)) expect(value, name).toBeCloseTo(metrics[name] ?? NaN, 6);
    expect(readFileSync(path("texts", "system.txt"), "utf8").trimEnd().split("\n")).toHaveLength(2);
    expect(readFileSync(path("texts", "references.txt"), "utf8")).toBe(
      "the film is dull\na dull film\n\nthe film is good\n",
    );
  });

  it("continues a prompt, and each line of a file", async () => {
    const model = await smallGpt2();
    const single = await runCli(["generate", "--model", model, "--prompt", "the film", "--max-new-tokens", "4"]);
    expect(single.code, single.stderr).toBe(0);
    expect(single.stdout.startsWith("the film")).toBe(true);
    const file = path("prompts.txt");
    writeFileSync(file, "the film\n\nnever\n");
    const both = await runCli(["generate", "--model", model, "--prompts", file, "--max-new-tokens", "4", "--json"]);
    const texts = jsonLines<{ prompt: string; text: string }>(both.stdout);
    expect(texts.map(({ prompt }) => prompt)).toEqual(["the film", "never"]);
    expect(`the film${texts[0]!.text}`).toBe(single.stdout.replace(/\n$/, ""));
  });

  it("ends texts before a stop text", async () => {
    const args = ["generate", "--model", await smallGpt2(), "--prompt", "the film", "--max-new-tokens", "8", "--json"];
    const textFor = async (more: readonly string[]) => {
      const { stdout, stderr } = await runCli([...args, ...more]);
      expect(stderr).toBe("");
      return parseJson<{ text: string; hasEnded: boolean }>(stdout);
    };
    const { text } = await textFor([]);
    const [first, second] = [text.slice(5, 7), text.slice(3, 5)];
    const stopped = await textFor(["--stop", first, "--stop", second]);
    const end = Math.min(text.indexOf(first), text.indexOf(second));
    expect(stopped).toMatchObject({ text: text.slice(0, end), hasEnded: true });
  });

  it("draws tokens where it is asked to, and says what it does not follow", async () => {
    const model = await smallGpt2();
    writeFileSync(path("gpt2", "generation_config.json"), JSON.stringify({ do_sample: true, temperature: 5 }));
    const args = ["generate", "--model", model, "--prompt", "the film", "--max-new-tokens", "8"];
    const likeliest = await runCli(args);
    expect(likeliest.stderr).toMatch(/generation_config.json says do_sample true, which --sample follows/);
    const drawn = await runCli([...args, "--sample", "--seed", "3"]);
    expect(drawn.code, drawn.stderr).toBe(0);
    expect(drawn.stderr).not.toMatch(/generation_config/);
    expect(drawn.stdout).not.toBe(likeliest.stdout);
    expect((await runCli([...args, "--temperature", "5", "--seed", "3"])).stdout).toBe(drawn.stdout);
    expect((await runCli([...args, "--top-k", "1"])).stdout).toBe(likeliest.stdout);
  });

  it("answers messages as the model's template writes them, as training does", async () => {
    const model = await smallGpt2();
    const template = `{% for m in messages %}{% if m.role == "system" %}{{ raise_exception("no system") }}{% endif %}
{{- m.role }}: {{ m.content }}{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}`;
    writeFileSync(path("gpt2", "chat_template.jinja"), template);
    const [user, assistant] = [
      { role: "user", content: "the film" },
      { role: "assistant", content: "never" },
    ];
    writeFileSync(path("train.jsonl"), `${JSON.stringify({ messages: [user, assistant] })}\n`);
    const task = ["--task", "chat", "--data", path("train.jsonl"), "--max-length", "48", "--epochs", "1"];
    const trained = await runCli(["train", "--model", model, ...task, "--out", path("out")]);
    expect(trained.code, trained.stderr).toBe(0);
    const chat = ["--chat", "--prompt", "the film", "--max-new-tokens", "4", "--json"];
    const said = await runCli(["generate", "--model", model, "--adapter", path("out"), ...chat]);
    expect(said.code, said.stderr).toBe(0);
    expect(jsonLines<{ prompt: string }>(said.stdout).map(({ prompt }) => prompt)).toEqual(["the film"]);
    const asSystem = await runCli(["generate", "--model", model, ...chat, "--system", "be kind"]);
    expect(asSystem.stderr).toMatch(/refuses the messages: no system/);
    writeFileSync(path("train.jsonl"), `\n${JSON.stringify({ messages: [{ ...user, role: "system" }, assistant] })}\n`);
    const refused = await runCli(["train", "--model", model, ...task, "--out", path("other")]);
    expect(refused.stderr).toMatch(/train\.jsonl in .*, line 2: the chat template .*: no system/);
    const plain = await runCli([
      "generate",
      "--model",
      model,
      ...chat,
      "--system",
      "be kind",
      "--chat-template",
      "none",
    ]);
    expect(plain.code, plain.stderr).toBe(0);
  });

  it("says so where the adapter was trained on another model, not where that has moved", async () => {
    const model = await smallGpt2();
    writeFileSync(path("train.jsonl"), `${JSON.stringify({ prompt: "the film", completion: "never" })}\n`);
    const task = ["--task", "chat", "--data", path("train.jsonl"), "--max-length", "48", "--epochs", "1"];
    const trained = await runCli(["train", "--model", model, ...task, "--out", path("out")]);
    expect(trained.code, trained.stderr).toBe(0);
    renameSync(model, path("moved"));
    const adapter = ["--adapter", path("out")];
    const prompt = [...adapter, "--prompt", "the film", "--max-new-tokens", "2"];
    const moved = await runCli(["generate", "--model", path("moved"), ...prompt]);
    expect(moved.code, moved.stderr).toBe(0);
    expect(moved.stderr).not.toContain("was trained on");
    const options = { tokenizer: TOKENIZERS.gpt2, seed: 1 };
    const other = await writeModel(path("other"), tiny.gpt2({ vocab_size: 340, n_positions: 64, n_layer: 2 }), options);
    const commands: readonly (readonly [readonly string[], string?])[] = [
      [["generate", "--model", other, ...prompt]],
      [["chat", "--model", other, ...adapter, "--max-new-tokens", "2", "--chat-template", "none"], "the film\n"],
      [["merge", path("out"), "--into", other, "--out", path("merged")]],
    ];
    for (const [args, input] of commands) {
      const { code, stderr } = await runCli(args, input);
      expect(stderr, args[0]).toContain(
        `The adapter in ${path("out")} was trained on ${model}, whose transformer.h.0.attn.c_attn.weight is not that of ${other}.\n` +
          "Use it with the model that it was trained on, unless this one is meant.",
      );
      expect(code).toBe(0);
    }
  });

  it("prints texts as they are written, the same as at the end", async () => {
    const model = await smallGpt2();
    writeFileSync(path("prompts.txt"), "the film\nnever\n");
    const args = ["generate", "--model", model, "--prompts", path("prompts.txt"), "--max-new-tokens", "8"];
    const [whole, streamed] = [await runCli(args), await runCli([...args, "--stream"])];
    expect(streamed.code, streamed.stderr).toBe(0);
    expect(streamed.stdout).toBe(whole.stdout);
    expect(whole.stdout.split("\n").map((line) => /^(?:the film|never|)/.exec(line)![0])).toEqual([
      "the film",
      "never",
      "",
    ]);
  });

  it("knows the families of a plugin", async () => {
    const model = await smallGpt2();
    const continued = async (): Promise<string> => {
      const printed: string[] = [];
      const options = { model, prompt: "the film", maxNewTokens: 4, quiet: true };
      await generateCommand(withFallbacks(GENERATE, options), (line) => void printed.push(line));
      return printed.join("\n");
    };
    const expected = await continued();
    const config = readJson<object>(`${model}/config.json`);
    writeFileSync(`${model}/config.json`, JSON.stringify({ ...config, model_type: "mine" }));
    await expect(continued()).rejects.toThrow(/model_type "mine" is not supported/);
    const source = JSON.stringify(join(process.cwd(), "src/model/families.ts"));
    const gpt2 = '{ ...config, model_type: "gpt2", architectures: ["GPT2LMHeadModel"] }';
    writeFileSync(
      path("family.mjs"),
      `import { createModel } from ${source};
       export const families = { mine: (config) => ({ ...createModel(${gpt2}), family: "mine" }) };`,
    );
    const forget = await loadPlugins([path("family.mjs")]);
    try {
      expect(await continued()).toBe(expected);
    } finally {
      forget();
    }
  });

  it.each<[string, string[], RegExp]>([
    ["a system's message to a text", ["--prompt", "a", "--system", "b"], /--system needs --chat/],
    [
      "a missing template",
      ["--prompt", "a", "--chat", "--chat-template", "nothing"],
      /^--chat-template: there is no file .*nothing\./,
    ],
    ["no plugin", ["--prompt", "a", "--plugin", "missing.mjs"], /^--plugin: there is no file .*missing\.mjs\./],
    ["no prompt", [], /--prompt is missing/],
    ["a missing file", ["--prompts", "nothing.txt"], /^--prompts: there is no file .*nothing\.txt\./],
    ["a stream of beams", ["--prompt", "a", "--stream", "--beams", "2"], /--stream and --beams 2 exclude each other/],
    ["a stream of JSON", ["--prompt", "a", "--stream", "--json"], /--stream and --json exclude each other/],
    ["half a beam", ["--prompt", "a", "--beams", "0.5"], /--beams is 0.5/],
  ])("refuses %s", async (_, args, fact) => {
    const { code, stderr } = await runCli(["generate", "--model", await smallGpt2(), ...args]);
    expect(code).toBeGreaterThan(0);
    expect(stderr).toMatch(fact);
  });
});
