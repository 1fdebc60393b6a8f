import { mkdirSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { jsonLines, runCli } from "../support/cli";
import { useFolder } from "../support/folder";
import { parseJson } from "../support/json";
import { TOKENIZERS, writeModel } from "../support/model-folder";
import { tiny } from "../support/tiny";

const path = useFolder();
const TEMPLATE = `{% for m in messages %}<{{ m.role }}>{{ m.content }}|{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}`;
const CONFIG = tiny.qwen3({
  vocab_size: 340,
  max_position_embeddings: 64,
  num_hidden_layers: 2,
  initializer_range: 0.2,
});

const line = (subject: string) => ({
  chosen: [
    { role: "user", content: `the ${subject}?` },
    { role: "assistant", content: `good ${subject}` },
  ],
  rejected: [
    { role: "user", content: `the ${subject}?` },
    { role: "assistant", content: "never" },
  ],
});

/** A small Qwen3 with a template, and pairs to train and to evaluate on. */
async function files(): Promise<{ readonly model: string; readonly data: string }> {
  const model = await writeModel(path("qwen3"), CONFIG, { tokenizer: TOKENIZERS.gpt2 });
  writeFileSync(path("qwen3", "chat_template.jinja"), TEMPLATE);
  mkdirSync(path("pairs"), { recursive: true });
  const write = (file: string, subjects: readonly string[]) =>
    writeFileSync(path("pairs", file), subjects.map((subject) => JSON.stringify(line(subject))).join("\n"));
  write("train.jsonl", ["film", "cast", "end", "scene", "plot"]);
  write("dev.jsonl", ["music", "story"]);
  return { model, data: path("pairs") };
}

interface Event {
  readonly type: string;
  readonly loss?: number;
  readonly metrics?: Readonly<Record<string, number>>;
}

describe("safetape train --task dpo", () => {
  it("trains on pairs, reports rewards, and trains the same in parts and after a pause", async () => {
    const { model, data } = await files();
    const train = [
      ...["train", "--task", "dpo", "--model", model, "--data", data, "--json", "--batch", "2", "--lr", "0.02"],
      ...["--targets", "all-linear", "--epochs", "4", "--beta", "0.5"],
    ];
    const whole = await runCli([...train, "--out", path("whole")]);
    expect(whole.code, whole.stderr).toBe(0);
    const events = jsonLines<Event>(whole.stdout);
    const losses = (all: readonly Event[]) => all.flatMap(({ type, loss }) => (type === "step" ? [loss!] : []));
    expect(losses(events)).toHaveLength(12);
    expect(losses(events)[0]).toBeCloseTo(Math.log(2), 3);
    const { metrics } = events.find(({ type }) => type === "end")!;
    expect(Object.keys(metrics!)).toEqual([
      "rewards/accuracies",
      "rewards/margins",
      "rewards/chosen",
      "rewards/rejected",
      "loss",
    ]);
    expect(metrics!["rewards/accuracies"]).toBe(1);
    expect(metrics!["loss"]).toBeLessThan(0.6);
    const parts = await runCli([...train, "--out", path("parts"), "--micro-batch", "1"]);
    const inParts = losses(jsonLines<Event>(parts.stdout));
    inParts.forEach((loss, i) => expect(loss).toBeCloseTo(losses(events)[i]!, 4));
  });

  it("is planned by pairs", async () => {
    const { model } = await files();
    const plan = ["plan", "--config", `${model}/config.json`, "--length", "32", "--json"];
    const pairs = await runCli([...plan, "--task", "dpo", "--batch", "4", "--beta", "0.5"]);
    const rows = await runCli([...plan, "--batch", "8"]);
    expect(pairs.code, pairs.stderr).toBe(0);
    const saved = ({ stdout }: { readonly stdout: string }) =>
      parseJson<{ readonly bytes: { readonly saved: number } }>(stdout).bytes.saved;
    // A pair is two rows, of which a step keeps no more than of two texts but a few numbers.
    expect(saved(pairs)).toBeGreaterThanOrEqual(saved(rows));
    expect(saved(pairs)).toBeLessThan(saved(rows) + 4096);
  });

  it("refuses what does not belong to it", async () => {
    const { model, data } = await files();
    const train = (...rest: string[]) => ["train", "--model", model, "--data", data, "--out", path("out"), ...rest];
    writeFileSync(path("pairs", "dev.jsonl"), `${JSON.stringify(line("plot"))}\n{"prompt": "a", "chosen": "b"}`);
    for (const [args, message] of [
      [train("--task", "chat", "--loss-type", "ipo"), /--loss-type ipo is of --task dpo/],
      [train("--task", "dpo", "--beta", "0"), /beta of DPO is 0/],
      [train("--task", "dpo", "--adapter", "meft"), /meft carries two streams/],
      [train("--task", "dpo", "--loss-type", "ipo", "--label-smoothing", "0.1"), /ipo loss has no label smoothing/],
      [train("--task", "dpo"), /dev\.jsonl in [^]*, line 2: it has no rejected answer[^]*"prompt", "chosen"/],
      [train("--task", "dpo", "--max-length", "4"), /train\.jsonl in [^]*, line 1: the chosen answer begins at token/],
    ] as const) {
      const { code, stderr } = await runCli(args);
      expect([code, stderr]).toEqual([expect.any(Number), expect.stringMatching(message)]);
      expect(code).not.toBe(0);
    }
  });
});
