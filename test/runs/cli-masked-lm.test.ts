import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { createEngine, loadModel } from "safetape";
import { jsonLines, runCli } from "../support/cli";
import { useFolder } from "../support/folder";
import { tiny } from "../support/tiny";

const path = useFolder();

interface Event {
  readonly type: string;
  readonly loss?: number;
  readonly metrics?: Readonly<Record<string, number>>;
}

/** A folder with a configuration and a tokenizer, but without weights, and texts. */
function files(): { readonly model: string; readonly data: string } {
  mkdirSync(path("new"), { recursive: true });
  for (const file of ["tokenizer.json", "tokenizer_config.json"])
    copyFileSync(`examples/model/${file}`, path("new", file));
  writeFileSync(
    path("new", "config.json"),
    JSON.stringify(tiny.bert({ vocab_size: 500, max_position_embeddings: 16 })),
  );
  mkdirSync(path("texts"), { recursive: true });
  const sentences = ["the film is warm and funny", "the cast is wonderful", "the plot is dull"];
  for (const [file, count] of [
    ["train.txt", 60],
    ["dev.txt", 12],
  ] as const) {
    writeFileSync(path("texts", file), Array.from({ length: count }, (_, i) => sentences[i % 3]).join("\n"));
  }
  return { model: path("new"), data: path("texts") };
}

describe("safetape train --task mlm --from-scratch", () => {
  it("pretrains a model that needs no weights, and writes one with its tokenizer", async () => {
    const { model, data } = files();
    const train = ["train", "--task", "mlm", "--model", model, "--data", data, "--out", path("out"), "--json"];
    const refused = await runCli([...train, "--from-scratch"]);
    expect([refused.code, refused.stderr]).toEqual([
      2,
      expect.stringContaining("--from-scratch has the adapter lora, whose base would be random."),
    ]);
    const scratch = ["--from-scratch", "--adapter", "full", "--lr", "0.003", "--batch", "8", "--epochs", "8"];
    const { code, stdout, stderr } = await runCli([...train, ...scratch]);
    expect(code, stderr).toBe(0);
    const events = jsonLines<Event>(stdout);
    const losses = events.flatMap(({ type, loss }) => (type === "step" ? [loss!] : []));
    expect(losses.at(-1)).toBeLessThan(losses[0]! - 1);
    const { metrics = {} } = events.find(({ type }) => type === "end")!;
    expect(Object.keys(metrics)).toEqual(["perplexity", "accuracy", "loss"]);
    expect(metrics["perplexity"]).toBeCloseTo(Math.exp(metrics["loss"]!), 6);
    using engine = await createEngine();
    using saved = await loadModel(engine, path("out"));
    expect([saved.model.task, saved.initialised, await saved.directory!.size("tokenizer.json")]).toEqual([
      "masked_lm",
      [],
      expect.any(Number),
    ]);
  });
});
