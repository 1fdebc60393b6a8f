import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createEngine, initialiseModel, loadAdapter, loadModel, lora, openDirectory, plan, saveModel } from "safetape";
import { readRunRecord, sumBytes } from "safetape";
import * as v from "valibot";
import { TRAIN_EVENT } from "../../src/cli/view/events";
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
    const adapterFiles = ["adapter_config.json", "adapter_model.safetensors"];
    const files = [...adapterFiles, "freezes.csv", "report.html", "run.json", "steps.csv"];
    expect(readdirSync(out).sort()).toEqual(files);
    const record = await readRunRecord(await openDirectory(out));
    expect(record.steps).toHaveLength(8);
    expect(record.freezes).toMatchObject([{ step: 3, layers: [0] }]);
    for (const { bytes, planned } of record.steps) expect(planned, "the plan's line").toEqual(bytes);
    expect(record.command).toMatch(/^safetape train .*--freeze '/);
    expect(Object.keys(record.versions)).toEqual(["safetape", "node", "webgpu"]);
    const drawn = readFileSync(join(out, "report.html"), "utf8");
    expect(drawn).toContain("lora with a policy on sst2");
    rmSync(join(out, "report.html"));
    expect(await runCli(["report", out])).toMatchObject({ code: 0, stdout: `${join(out, "report.html")}\n` });
    expect(readFileSync(join(out, "report.html"), "utf8"), "drawn again from run.json").toBe(drawn);
    using engine = await createEngine();
    using model = await loadModel(engine, "examples/model");
    const { adapter } = await loadAdapter(await openDirectory(out), model);
    expect(adapter.kind).toBe("lora");
  });

  it("keeps a frozen prefix and merges what is frozen, and says so", async () => {
    const out = join(folder, "out");
    const data = ["--data", smallData(16), "--task", "sst2", "--epochs", "4", "--batch", "8"];
    const freeze = `{"policy": "fixed", "freezes": [{"beforeStep": 2, "tensors": ["layer.0.", "layer.1."]}]}`;
    const options = ["--freeze", freeze, "--prefix-cache", "1MB", "--merge-on-freeze"];
    const command = ["train", "--model", "examples/model", ...data, ...options, "--out", out];
    const refused = await runCli(command);
    expect(refused.code).not.toBe(0);
    expect(refused.stderr).toMatch(/prefixCache: dropout acts/);
    const result = await runCli([...command, "--without-dropout"]);
    expect(result.code, result.stderr).toBe(0);
    expect(result.stderr).toMatch(/from step 3 on: 8 rows at a time, nothing recomputed, starting at layer 2/);
    expect(result.stderr).toMatch(/8\/8 .* cached 0\.[1-9] MB/);
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

  it("fine-tunes a ViT on CIFAR-10's files", async () => {
    const model = join(folder, "model");
    {
      using engine = await createEngine();
      const sizes = { hidden_size: 16, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 16 };
      using loaded = await initialiseModel(engine, { model_type: "vit", ...sizes, image_size: 32, patch_size: 8 });
      await saveModel(await openDirectory(model, { create: true }), loaded);
    }
    const data = join(folder, "cifar");
    const image = (label: number) => [label, ...Array.from({ length: 3072 }, (_, i) => (i * 7 + label * 40) % 256)];
    const files = await openDirectory(data, { create: true });
    for (const file of ["data_batch_1.bin", "test_batch.bin"]) {
      await files.write(file, Uint8Array.from([3, 8, 3, 8].flatMap(image)));
    }
    const out = join(folder, "out");
    const args = ["--model", model, "--task", "cifar10", "--data", data, "--out", out, "--epochs", "2", "--batch", "2"];
    const result = await runCli(["train", ...args, "--json"]);
    expect(result.code, result.stderr).toBe(0);
    const events = result.stdout
      .trim()
      .split("\n")
      .map((line) => v.parse(TRAIN_EVENT, JSON.parse(line)));
    const kinds = events.map(({ type }) => type).filter((type) => type !== "progress");
    expect(kinds).toEqual(["start", "step", "step", "step", "step", "end"]);
    expect(events.at(-1)).toMatchObject({ out, report: join(out, "report.html") });
    const last = events.at(-1) as unknown as { metrics: Record<string, number> };
    expect(last.metrics["accuracy"]).toBeGreaterThanOrEqual(0);
    const { target_modules } = JSON.parse(readFileSync(join(out, "adapter_config.json"), "utf8")) as Record<
      string,
      unknown
    >;
    expect(target_modules, "the names of transformers 5").toEqual(["q_proj", "v_proj"]);
  });

  it("fine-tunes a ViT on image folders of any size", async () => {
    const model = join(folder, "model");
    {
      using engine = await createEngine();
      const sizes = { hidden_size: 16, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 16 };
      using loaded = await initialiseModel(engine, { model_type: "vit", ...sizes, image_size: 16, patch_size: 8 });
      const files = await openDirectory(model, { create: true });
      await saveModel(files, loaded);
      await files.write("preprocessor_config.json", new TextEncoder().encode('{"size": 16, "resample": 3}'));
    }
    const { files } = JSON.parse(readFileSync("test/image-data/pillow.json", "utf8")) as {
      files: Record<string, { bytes: string }>;
    };
    for (const part of ["train", "val"]) {
      for (const [name, kind] of Object.entries({ cats: "rgb", dogs: "jpeg", eels: "grey" })) {
        const path = join(folder, "images", part, name);
        mkdirSync(path, { recursive: true });
        writeFileSync(join(path, kind === "jpeg" ? "a.jpg" : "a.png"), Buffer.from(files[kind]?.bytes ?? "", "base64"));
      }
    }
    const out = join(folder, "out");
    const args = ["--model", model, "--task", "images", "--data", join(folder, "images"), "--out", out];
    const result = await runCli(["train", ...args, "--epochs", "2", "--batch", "2", "--json"]);
    expect(result.code, result.stderr).toBe(0);
    const last = JSON.parse(result.stdout.trim().split("\n").at(-1)!) as { metrics: Record<string, number> };
    expect(last.metrics["accuracy"]).toBeGreaterThanOrEqual(0);
    expect(result.stderr).toMatch(/new in this run: classifier/);
  });

  it("judges MNLI by both of its dev sets", async () => {
    const header = Array.from({ length: 12 }, (_, i) => `c${i}`);
    header.splice(8, 2, "sentence1", "sentence2");
    header[11] = "gold_label";
    const row = (label: string): string =>
      [...Array.from({ length: 8 }, () => "x"), "the film is dull", "it is boring", "y", label].join("\t");
    const rows = ["entailment", "neutral", "contradiction", "neutral"].map(row);
    for (const file of ["train.tsv", "dev_matched.tsv", "dev_mismatched.tsv"]) {
      writeFileSync(join(folder, file), `${[header.join("\t"), ...rows].join("\n")}\n`);
    }
    const args = ["--model", "examples/model", "--task", "mnli", "--data", folder, "--out", join(folder, "out")];
    const result = await runCli(["train", ...args, "--epochs", "1", "--batch", "4", "--json"]);
    expect(result.code, result.stderr).toBe(0);
    const { metrics } = JSON.parse(result.stdout.trim().split("\n").at(-1)!) as { metrics: Record<string, number> };
    expect(Object.keys(metrics)).toEqual(["accuracy", "loss", "accuracy_mismatched", "loss_mismatched"]);
    expect(metrics["loss_mismatched"]).toBe(metrics["loss"]);
  });

  it("makes a run fit into a budget, tells how, and stays within it", async () => {
    const config = JSON.parse(readFileSync("examples/model/config.json", "utf8")) as Record<string, unknown>;
    const { peakBytes } = plan({ config, adapter: lora({ rank: 2 }), batch: 16, length: 40 });
    const budget = Math.round(0.6 * peakBytes);
    const out = join(folder, "out");
    const data = ["--data", smallData(32), "--task", "sst2", "--epochs", "1", "--batch", "16", "--max-length", "40"];
    const memory = ["--memory-budget", String(budget), "--fit"];
    const args = ["train", "--model", "examples/model", ...data, "--rank", "2", ...memory, "--out", out];
    const result = await runCli(args);
    expect(result.code, result.stderr).toBe(0);
    expect(result.stderr).toMatch(
      new RegExp(`to fit into ${budget} bytes: weights \\w+, activations \\w+, .* run again`),
    );
    const { steps } = await readRunRecord(await openDirectory(out));
    const most = Math.max(...steps.map(({ bytes }) => sumBytes(bytes)));
    expect(most, "bytes between steps").toBeLessThanOrEqual(budget);
    const without = await runCli(
      args.filter((arg) => arg !== "--fit").map((arg) => (arg === String(budget) ? "1MB" : arg)),
    );
    expect(without).toMatchObject({ code: 1, stdout: "" });
    expect(without.stderr).toMatch(/needs \d+ bytes .*the budget is/);
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

describe("safetape study", () => {
  it("runs methods x seeds, writes the table, and does not run again what is there", async () => {
    const study = {
      model: join(process.cwd(), "examples/model"),
      tasks: [{ task: "sst2", name: "small", data: smallData(16), maxLength: 40, batch: 8, steps: 2 }],
      seeds: [1, 2],
      methods: [
        { name: "LoRA", adapter: { kind: "lora", rank: 2 }, learningRate: 1e-3 },
        {
          name: "upper",
          adapter: { kind: "lora", rank: 2 },
          freeze: { policy: "upper_layers", count: 1 },
          learningRate: 1e-3,
        },
      ],
    };
    const path = join(folder, "small.json");
    writeFileSync(path, JSON.stringify(study));
    const out = join(folder, "out");
    const first = await runCli(["study", path, "--out", out, "--json"]);
    expect(first.code, first.stderr).toBe(0);
    const { rows } = JSON.parse(first.stdout) as { rows: Record<string, unknown>[] };
    expect(rows.map(({ method }) => method)).toEqual(["LoRA", "upper"]);
    expect(rows[0]).toMatchObject({ relativeTime: 1, frozenShare: 0 });
    expect(rows[1]).toMatchObject({ frozenShare: 0.75, trainable: 4096, averageTrainable: 1024 });
    rmSync(join(out, "small--upper--2.json"));
    const second = await runCli(["study", path, "--out", out]);
    expect(second.code, second.stderr).toBe(0);
    expect(second.stderr.match(/ reused$/gm), "runs that were reused").toHaveLength(3);
    expect(readFileSync(join(out, "table.md"), "utf8")).toMatch(/^\| task \| method \| accuracy /);
    expect(second.stdout).toContain("| small | upper |");
  });

  it.each<[string, object, RegExp]>([
    ["an unknown key", { colour: "red" }, /colour/],
    ["an unknown adapter", { methods: [{ name: "a", adapter: { kind: "dora" }, learningRate: 1 }] }, /no adapter dora/],
    [
      "an unknown option",
      { methods: [{ name: "a", adapter: { kind: "ia3", rank: 2 }, learningRate: 1 }] },
      /ia3 has no option rank/,
    ],
    ["a baseline that is not a method", { baseline: "b" }, /baseline b is not a method/],
  ])("refuses %s before it runs anything", async (_, change, fact) => {
    const study = {
      model: "examples/model",
      tasks: [{ task: "sst2", data: ".", steps: 1 }],
      seeds: [1],
      methods: [{ name: "a", adapter: { kind: "lora" }, learningRate: 1 }],
      ...change,
    };
    const path = join(folder, "wrong.json");
    writeFileSync(path, JSON.stringify(study));
    const result = await runCli(["study", path, "--out", join(folder, "out")]);
    expect(result).toMatchObject({ code: 1, stdout: "" });
    expect(result.stderr).toMatch(fact);
    expect(readdirSync(folder)).not.toContain("out");
  });
});
