import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { cliProgram, runCli } from "../support/cli";
import { useFolder } from "../support/folder";
import { TOKENIZERS, writeModel } from "../support/model-folder";
import { tiny } from "../support/tiny";

const path = useFolder();
const TEMPLATE = `{% for m in messages %}{% if m.role == "system" and m.content == "no" %}{{ raise_exception("no system") }}{% endif %}
{{- m.role }}: {{ m.content }}{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}`;

/** A small GPT-2 with a tokenizer and a chat template. */
async function chatModel(positions: number): Promise<string> {
  const model = await writeModel(path("gpt2"), tiny.gpt2({ vocab_size: 340, n_positions: positions, n_layer: 2 }), {
    tokenizer: TOKENIZERS.gpt2,
  });
  writeFileSync(path("gpt2", "chat_template.jinja"), TEMPLATE);
  return model;
}

describe("safetape chat", () => {
  it("answers lines by the model's template, remembers them, and forgets them on /reset", async () => {
    const model = await chatModel(64);
    const chat = ["chat", "--model", model, "--max-new-tokens", "6"];
    const single = await runCli([...chat], "the film\n");
    expect(single.code, single.stderr).toBe(0);
    const answer = single.stdout;
    const generated = await runCli([
      ...["generate", "--model", model, "--chat", "--prompt", "the film", "--max-new-tokens", "6"],
    ]);
    expect(answer).toBe(generated.stdout.trimStart());
    const both = await runCli(chat, "the film\n\n/reset\nthe film\n/quit\nthe film\n");
    expect(both.stdout, "nothing is remembered, and nothing answered after /quit").toBe(answer + answer);
    expect(both.stderr).toMatch(/The conversation is forgotten\./);
    // The second question is asked as the template writes the whole conversation.
    const follow = await runCli(chat, "the film\nnever\n");
    const question = `the filmassistant: ${answer.slice(0, -1)}user: never`;
    const asOne = await runCli([...chat], `${question}\n`);
    expect(follow.stdout.startsWith(answer)).toBe(true);
    expect(follow.stdout.slice(answer.length)).toBe(asOne.stdout);
  });

  it("forgets the oldest turns when the context is full, and says so", async () => {
    const chat = ["chat", "--model", await chatModel(64), "--max-new-tokens", "8"];
    const { code, stdout, stderr } = await runCli(chat, "the film is good\n".repeat(5));
    expect(code, stderr).toBe(0);
    expect(stderr).toMatch(/oldest turns? (?:is|are) forgotten: the model's context has 64 tokens/);
    expect(stdout.length).toBeGreaterThan(5);
    const long = await runCli(chat, `the film\n/reset\n${"never ".repeat(80)}\nthe film\n`);
    expect(long.stderr).toMatch(/the message has \d+ tokens with what the template adds; the model takes at most 64/i);
    expect(long.code).toBe(1);
    expect(long.stdout, "nothing is answered after it").toBe((await runCli(chat, "the film\n")).stdout);
  });

  it("draws as generation_config.json says, and by options", async () => {
    const chat = ["chat", "--model", await chatModel(64), "--max-new-tokens", "8"];
    const likeliest = await runCli(chat, "the film\n");
    writeFileSync(path("gpt2", "generation_config.json"), JSON.stringify({ do_sample: true, temperature: 4 }));
    const drawn = await runCli(chat, "the film\n");
    expect(drawn.stdout).not.toBe(likeliest.stdout);
    expect((await runCli([...chat, "--temperature", "4", "--seed", "0"], "the film\n")).stdout).toBe(drawn.stdout);
    expect((await runCli([...chat, "--top-k", "1"], "the film\n")).stdout).toBe(likeliest.stdout);
  });

  it("ends answers before a stop text", async () => {
    const chat = ["chat", "--model", await chatModel(64), "--max-new-tokens", "8"];
    const { stdout } = await runCli(chat, "the film\n");
    // Not what the answer begins with, whose space is not shown.
    const stop = stdout.slice(5, 7);
    const stopped = await runCli([...chat, "--stop", stop], "the film\n");
    expect(stopped.stdout).toBe(`${stdout.slice(0, stdout.indexOf(stop))}\n`);
    expect(stopped.stderr).toBe("");
  });

  it("stops an answer on an interrupt, and goes on", async () => {
    const model = await chatModel(4096);
    const args = ["chat", "--model", model, "--max-new-tokens", "4000", "--chat-template", "none"];
    const child = spawn(process.execPath, [await cliProgram(), ...args]);
    let errors = "";
    child.stderr.on("data", (data: Buffer) => (errors += data.toString()));
    child.stdin.write("the film\n");
    await once(child.stdout, "data");
    child.kill("SIGINT");
    child.stdout.resume();
    child.stdin.end("/reset\n/quit\n");
    const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
    expect(errors).toMatch(/The answer was stopped\.\nThe conversation is forgotten\./);
    expect(code).toBe(0);
  });

  it("fails where a piped line cannot be answered, and refuses encoders", async () => {
    const model = await chatModel(64);
    for (const [args, input, message, expected] of [
      [["--system", "no"], "the film\n", /refuses the messages: no system/, 1],
      [[], "/nothing\nthe film\n", /There is no command \/nothing\.\nThere are \/reset and \/quit\.$/, 2],
    ] as const) {
      const { stderr, stdout, code } = await runCli(["chat", "--model", model, ...args], input);
      expect(stderr).toMatch(message);
      expect([code, stdout]).toEqual([expected, ""]);
    }
    const t5 = await writeModel(path("t5"), tiny.t5({ vocab_size: 340 }), { tokenizer: TOKENIZERS.gpt2 });
    const refused = await runCli(["chat", "--model", t5], "");
    expect(refused.stderr).toMatch(/chat is for causal models; t5 has an encoder/);
    expect(refused.code).toBe(2);
  });
});
