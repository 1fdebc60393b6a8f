import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createEngine, initialiseModel, loadAdapter, loadModel, openDirectory, saveModel } from "safetape";
import { runCli } from "../support/cli";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "safetape-cli-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** The first lines of the examples' data, so that a run takes seconds. */
function smallData(rows: number): string {
  for (const file of ["train.tsv", "dev.tsv"]) {
    const lines = readFileSync(`examples/data/sentiment/${file}`, "utf8").split("\n");
    writeFileSync(join(folder, file), `${lines.slice(0, rows + 1).join("\n")}\n`);
  }
  return folder;
}

describe("safetape doctor", () => {
  it("names the adapter, its limits and its measured rates", async () => {
    const { code, stdout } = await runCli(["doctor", "--json"]);
    expect(code).toBe(0);
    const told = JSON.parse(stdout) as Record<string, unknown>;
    expect(JSON.stringify(told).toLowerCase()).toContain(process.env["SAFETAPE_ADAPTER"]);
    expect(told).toMatchObject({ limits: expect.any(Object) as object });
  });
});

describe("safetape train", () => {
  it("fine-tunes a GLUE task, shows what freezes, and saves an adapter that loads", async () => {
    const out = join(folder, "out");
    const data = ["--data", smallData(32), "--task", "sst2", "--epochs", "2", "--batch", "8"];
    const method = [
      "--rank",
      "2",
      "--freeze",
      `{"policy": "fixed", "freezes": [{"beforeStep": 3, "tensors": ["layer.0."]}]}`,
    ];
    const result = await runCli(["train", "--model", "examples/model", ...data, ...method, "--out", out]);
    expect(result.code, result.stderr).toBe(0);
    expect(result.stdout).toMatch(/accuracy 0\.\d+ .*saved in/);
    expect(result.stderr).toMatch(/froze the adapter of layer 0;/);
    expect(readdirSync(out).sort()).toEqual(["adapter_config.json", "adapter_model.safetensors", "run.json"]);
    const record = JSON.parse(readFileSync(join(out, "run.json"), "utf8")) as { losses: number[]; freezes: unknown[] };
    expect(record.losses).toHaveLength(8);
    expect(record.freezes).toHaveLength(1);
    using engine = await createEngine();
    using model = await loadModel(engine, "examples/model");
    const { adapter } = await loadAdapter(await openDirectory(out), model);
    expect(adapter.kind).toBe("lora");
  });

  it("fine-tunes a language model on a text", async () => {
    const model = join(folder, "model");
    {
      using engine = await createEngine();
      const config = { model_type: "gpt2", vocab_size: 700, n_positions: 32, n_embd: 16, n_layer: 2, n_head: 2 };
      using loaded = await initialiseModel(engine, config);
      await saveModel(await openDirectory(model, { create: true }), loaded);
    }
    for (const file of ["tokenizer.json", "tokenizer_config.json"]) {
      writeFileSync(join(model, file), readFileSync(`test/interop-data/tokenizers/gpt2/${file}`));
    }
    const text = join(folder, "text.txt");
    writeFileSync(text, "the film is not boring, and the plot is never dull\n".repeat(60));
    const out = join(folder, "out");
    const data = ["--task", "lm", "--data", text, "--max-length", "16", "--epochs", "1", "--batch", "4"];
    const result = await runCli([
      "train",
      "--model",
      model,
      ...data,
      "--out",
      out,
      "--adapter",
      "pfeiffer",
      "--size",
      "4",
    ]);
    expect(result.code, result.stderr).toBe(0);
    expect(readdirSync(out)).toContain("adapter_model.safetensors");
  });

  it("writes nothing when the data is bad", async () => {
    const out = join(folder, "out");
    const data = smallData(4);
    writeFileSync(join(data, "train.tsv"), "sentence\tlabel\na fine film\t7\n");
    const args = ["train", "--model", "examples/model", "--task", "sst2", "--data", data, "--out", out];
    const result = await runCli(args);
    expect(result).toMatchObject({ code: 1, stdout: "" });
    expect(result.stderr).toMatch(/train\.tsv.*2|label/);
    expect(readdirSync(folder)).not.toContain("out");
  });
});
