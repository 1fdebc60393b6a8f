import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { createEngine, loadAdapter, loadModel, lora, openDirectory, plan } from "safetape";
import { sumBytes } from "safetape/engine";
import { readRunRecord } from "safetape/analysis";
import * as v from "valibot";
import type { RunResult } from "../../src/cli/study/run";
import { TRAIN_EVENT } from "../../src/cli/view/events";
import { jsonLines, runCli } from "../support/cli";
import { useFolder } from "../support/folder";
import { parseJson, readJson } from "../support/json";
import { TOKENIZERS, writeModel, writeSentiment } from "../support/model-folder";
import { layerCount, tiny } from "../support/tiny";
import type { Config } from "../support/tiny";
import { itLong } from "../support/long";

const path = useFolder();

/** A folder with so few rows of the example that a run takes seconds. */
const smallData = (rows: number): string => writeSentiment(path(), rows);

const VIT_SIZES = { ...layerCount(2), num_channels: 3 };

interface TrainEnd {
  readonly metrics: Readonly<Record<string, number>>;
}
const metricsOf = (stdout: string) => jsonLines<TrainEnd>(stdout).at(-1)!.metrics;

describe("safetape doctor", () => {
  it("names the adapter, its limits and its measured rates", async () => {
    const { code, stdout } = await runCli(["doctor", "--json"]);
    expect(code).toBe(0);
    expect(stdout.toLowerCase()).toContain(process.env["SAFETAPE_ADAPTER"]);
    // Matchers are typed any.
    expect(JSON.parse(stdout)).toMatchObject({ limits: expect.any(Object) as unknown });
  });
});

describe("safetape train", () => {
  it("fine-tunes a GLUE task, shows what freezes, and saves an adapter that loads", async () => {
    const out = path("out");
    const data = ["--data", smallData(32), "--task", "sst2", "--epochs", "2", "--batch", "8"];
    const freeze = `{"policy": "fixed", "freezes": [{"beforeStep": 3, "tensors": ["layer.0."]}]}`;
    const method = ["--rank", "2", "--freeze", freeze, "--base-model", "owner/name"];
    const result = await runCli(["train", "--model", "examples/model", ...data, ...method, "--out", out]);
    expect(result.code, result.stderr).toBe(0);
    expect(result.stdout).toMatch(/accuracy 0\.\d+ .*saved in/);
    expect(result.stderr).toMatch(/froze the adapter of layer 0;/);
    const adapterFiles = ["adapter_config.json", "adapter_model.safetensors"];
    const files = ["README.md", ...adapterFiles, "config.yaml", "freezes.csv", "report.html", "run.json", "steps.csv"];
    expect(readdirSync(out).sort()).toEqual(files);
    const record = await readRunRecord(await openDirectory(out));
    const card = readFileSync(join(out, "README.md"), "utf8");
    expect(card).toContain("\n- base_model:adapter:owner/name\n- lora\n");
    expect(card).toContain(`    - type: accuracy\n      value: ${record.metrics["accuracy"]}\n`);
    const { base_model_name_or_path: base } = readJson<Config>(join(out, "adapter_config.json"));
    expect(base).toBe("owner/name");
    expect(record.steps).toHaveLength(8);
    expect(record.freezes).toMatchObject([{ step: 3, layers: [0] }]);
    // One of four equal layers froze after three of eight steps.
    const { trained = NaN, averageLive = NaN } = record.parameters ?? {};
    expect(averageLive / trained, "share of the parameters that learn").toBe((2 + 6 * 0.75) / 8);
    expect(result.stdout).toContain(`${trained.toLocaleString("en-US")} trained parameters, `);
    for (const { bytes, planned } of record.steps) expect(planned, "planned bytes").toEqual(bytes);
    expect(record.command).toMatch(/^safetape train .*--freeze '/);
    expect(Object.keys(record.versions)).toEqual(["safetape", "node", "webgpu"]);
    const report = readFileSync(join(out, "report.html"), "utf8");
    expect(report).toContain("lora with a policy on sst2");
    rmSync(join(out, "report.html"));
    expect(await runCli(["report", out])).toMatchObject({ code: 0, stdout: `${join(out, "report.html")}\n` });
    expect(readFileSync(join(out, "report.html"), "utf8"), "drawn again from run.json").toBe(report);
    const again = await runCli(["train", "--config", join(out, "config.yaml"), "--out", path("again"), "--quiet"]);
    expect(again.code, again.stderr).toBe(0);
    const weightsOf = (run: string) => readFileSync(path(run, "adapter_model.safetensors"));
    expect(weightsOf("again").equals(weightsOf("out")), "the run by its config.yaml").toBe(true);
    using engine = await createEngine();
    using model = await loadModel(engine, "examples/model");
    const { adapter } = await loadAdapter(await openDirectory(out), model);
    expect(adapter.kind).toBe("lora");
  });

  itLong("caches a frozen prefix, merges frozen adapters, and says so", async () => {
    const out = path("out");
    const data = ["--data", smallData(16), "--task", "sst2", "--epochs", "4", "--batch", "8"];
    const freeze = `{"policy": "fixed", "freezes": [{"beforeStep": 2, "tensors": ["layer.0.", "layer.1."]}]}`;
    const options = ["--freeze", freeze, "--prefix-cache", "1MB", "--merge-on-freeze"];
    const command = ["train", "--model", "examples/model", ...data, ...options, "--out", out];
    const refused = await runCli(command);
    expect(refused.code).not.toBe(0);
    expect(refused.stderr).toMatch(/--prefix-cache: dropout acts.*\nGive --without-dropout/);
    const result = await runCli([...command, "--without-dropout"]);
    expect(result.code, result.stderr).toBe(0);
    expect(result.stderr).toMatch(/from step 3 on: 8 rows at a time, nothing recomputed, starting at layer 2/);
    expect(result.stderr).toMatch(/8\/8 .* cached 0\.[1-9] MB/);
  });

  itLong("fine-tunes a language model on a text", async () => {
    const config = tiny.gpt2({ vocab_size: 700, n_layer: 2 });
    const model = await writeModel(path("model"), config, { tokenizer: TOKENIZERS.gpt2 });
    const text = path("text.txt");
    writeFileSync(text, "the film is not boring, and the plot is never dull\n".repeat(60));
    const out = path("out");
    const data = ["--task", "lm", "--data", text, "--max-length", "16", "--epochs", "1", "--batch", "4"];
    const method = ["--adapter", "pfeiffer", "--size", "4"];
    const schedule = ["--every", "1", "--tau-t", "1", "--max-warmup", "1", "--freeze-until", "rampEnd"];
    const freezing = ["--freeze", "safe", "--reference", "own", "--probe-batches", "2", ...schedule];
    const args = ["train", "--model", model, ...data, ...method, ...freezing, "--out", out];
    const refused = await runCli([...args, "--patience", "1"]);
    expect(refused).toMatchObject({ code: 2, stdout: "" });
    expect(refused.stderr).toMatch(/--patience needs a dev set/);
    expect(readdirSync(path())).not.toContain("out");
    const result = await runCli(args);
    expect(result.code, result.stderr).toBe(0);
    expect(readdirSync(out)).toContain("adapter_model.safetensors");
    expect(result.stderr, "a language model has no head to train on").toMatch(/layer 1 continues to be trained/);
    const { policy, freezes } = await readRunRecord(await openDirectory(out));
    expect(policy).toMatchObject({ measure: "cka", reference: "own", until: "rampEnd", maxWarmup: 1, tauT: 1 });
    expect(freezes).toMatchObject([{ layers: [0] }]);
  });

  it("fine-tunes a ViT on CIFAR-10's files", async () => {
    const model = await writeModel(path("model"), tiny.vit({ ...VIT_SIZES, image_size: 32, patch_size: 8 }));
    const data = path("cifar");
    const image = (label: number) => [label, ...Array.from({ length: 3072 }, (_, i) => (i * 7 + label * 40) % 256)];
    const files = await openDirectory(data, { create: true });
    for (const file of ["data_batch_1.bin", "test_batch.bin"]) {
      await files.write(file, Uint8Array.from([3, 8, 3, 8].flatMap(image)));
    }
    const out = path("out");
    const args = ["--model", model, "--task", "cifar10", "--data", data, "--out", out, "--epochs", "2", "--batch", "2"];
    const result = await runCli(["train", ...args, "--json"]);
    expect(result.code, result.stderr).toBe(0);
    const events = jsonLines<unknown>(result.stdout).map((event) => v.parse(TRAIN_EVENT, event));
    const kinds = events.map(({ type }) => type).filter((type) => type !== "progress");
    expect(kinds).toEqual(["start", "step", "step", "step", "step", "end"]);
    expect(events.at(-1)).toMatchObject({ out, report: join(out, "report.html") });
    expect(metricsOf(result.stdout)["accuracy"]).toBeGreaterThanOrEqual(0);
    const { target_modules: targets } = readJson<Config>(join(out, "adapter_config.json"));
    expect(targets, "module names of transformers 5").toEqual(["q_proj", "v_proj"]);
  });

  it("fine-tunes a ViT on image folders of any size", async () => {
    const model = await writeModel(path("model"), tiny.vit({ ...VIT_SIZES, image_size: 16, patch_size: 8 }));
    writeFileSync(join(model, "preprocessor_config.json"), '{"size": 16, "resample": 3}');
    const { files } = readJson<{ files: Record<string, { bytes: string }> }>("test/image-data/pillow.json");
    for (const part of ["train", "val"]) {
      for (const [name, kind] of Object.entries({ cats: "rgb", dogs: "jpeg", eels: "grey" })) {
        const images = path("images", part, name);
        mkdirSync(images, { recursive: true });
        writeFileSync(
          join(images, kind === "jpeg" ? "a.jpg" : "a.png"),
          Buffer.from(files[kind]?.bytes ?? "", "base64"),
        );
      }
    }
    const out = path("out");
    const args = ["--model", model, "--task", "images", "--data", path("images"), "--out", out];
    const result = await runCli(["train", ...args, "--epochs", "2", "--batch", "2", "--json"]);
    expect(result.code, result.stderr).toBe(0);
    expect(metricsOf(result.stdout)["accuracy"]).toBeGreaterThanOrEqual(0);
    expect(result.stderr).toMatch(/new in this run: classifier/);
  });

  itLong("evaluates MNLI on both of its dev sets", async () => {
    const header = Array.from({ length: 12 }, (_, i) => `c${i}`);
    header.splice(8, 2, "sentence1", "sentence2");
    header[11] = "gold_label";
    const row = (label: string): string =>
      [...Array.from({ length: 8 }, () => "x"), "the film is dull", "it is boring", "y", label].join("\t");
    const rows = ["entailment", "neutral", "contradiction", "neutral"].map(row);
    for (const file of ["train.tsv", "dev_matched.tsv", "dev_mismatched.tsv"]) {
      writeFileSync(path(file), `${[header.join("\t"), ...rows].join("\n")}\n`);
    }
    const args = ["--model", "examples/model", "--task", "mnli", "--data", path(), "--out", path("out")];
    const result = await runCli(["train", ...args, "--epochs", "1", "--batch", "4", "--json"]);
    expect(result.code, result.stderr).toBe(0);
    const metrics = metricsOf(result.stdout);
    expect(Object.keys(metrics)).toEqual(["accuracy", "loss", "accuracy_mismatched", "loss_mismatched"]);
    expect(metrics["loss_mismatched"]).toBe(metrics["loss"]);
  });

  it("fits a run into a budget, says how, and stays within it", async () => {
    const config = readJson<Config>("examples/model/config.json");
    const { peakBytes } = plan({ config, adapter: lora({ rank: 2 }), batch: 16, length: 40 });
    const budget = Math.round(0.6 * peakBytes);
    const out = path("out");
    const data = ["--data", smallData(32), "--task", "sst2", "--epochs", "1", "--batch", "16", "--max-length", "40"];
    const memory = ["--memory-budget", String(budget), "--fit"];
    const args = ["train", "--model", "examples/model", ...data, "--rank", "2"];
    const result = await runCli([...args, ...memory, "--out", out]);
    expect(result.code, result.stderr).toBe(0);
    expect(result.stderr).toMatch(
      new RegExp(`to fit into ${budget} bytes: weights \\w+, activations \\w+, .* recomputed`),
    );
    const { steps } = await readRunRecord(await openDirectory(out));
    const mostBytes = Math.max(...steps.map(({ bytes }) => sumBytes(bytes)));
    expect(mostBytes, "bytes between steps").toBeLessThanOrEqual(budget);
    const without = await runCli([...args, "--memory-budget", "1MB", "--out", path("without")]);
    expect(without).toMatchObject({ code: 1, stdout: "" });
    expect(without.stderr).toMatch(/needs \d+ bytes .*the budget is/);
  });

  it("leaves the results of an earlier run alone, or removes what that run wrote and nothing else", async () => {
    const out = path("out");
    const data = ["--data", smallData(8), "--task", "sst2", "--batch", "8", "--max-length", "16", "--rank", "2"];
    const args = ["train", "--model", "examples/model", ...data, "--out", out, "--quiet"];
    const freeze = `{"policy": "fixed", "freezes": [{"beforeStep": 1, "tensors": ["layer.0."]}]}`;
    const first = await runCli([...args, "--epochs", "2", "--freeze", freeze]);
    expect(first.code, first.stderr).toBe(0);
    writeFileSync(join(out, "notes.txt"), "mine");
    const files = readdirSync(out);
    expect(files).toContain("freezes.csv");
    const before = files.map((file) => readFileSync(join(out, file)));
    const refusal =
      /has the results of an earlier run: adapter_config\.json, .* and others\.\n.* another --out, or --overwrite/;
    for (const more of [[], ["--resume"]]) {
      const refused = await runCli([...args, "--epochs", "1", ...more]);
      expect(refused).toMatchObject({ code: 2, stdout: "" });
      expect(refused.stderr).toMatch(refusal);
    }
    const merged = await runCli(["merge", out, "--out", out, "--overwrite"]);
    expect(merged.stderr).toMatch(/^--out is .*, which is read from\./);
    expect(readdirSync(out).map((file) => readFileSync(join(out, file)))).toEqual(before);
    const second = await runCli([...args, "--epochs", "1", "--overwrite"]);
    expect(second.code, second.stderr).toBe(0);
    expect(readdirSync(out).sort()).toEqual(files.filter((file) => file !== "freezes.csv").sort());
    expect(readFileSync(join(out, "notes.txt"), "utf8")).toBe("mine");
    expect((await readRunRecord(await openDirectory(out))).steps).toHaveLength(1);
    expect(readFileSync(join(out, "config.yaml"), "utf8")).not.toContain("overwrite");
  });

  itLong("stops early and saves the best state", async () => {
    const out = path("out");
    const data = smallData(16);
    const rates = ["--schedule", "three_rate", "--initial-lr", "0.1", "--lr", "0.4", "--final-lr", "0.2"];
    const length = ["--epochs", "20", "--batch", "8", "--max-length", "16", "--warmup-steps", "2"];
    const args = ["train", "--model", "examples/model", "--task", "sst2", "--data", data, "--out", out];
    const result = await runCli([...args, ...rates, ...length, "--patience", "1"]);
    expect(result.code, result.stderr).toBe(0);
    const { steps, evaluations, bestStep, metrics } = await readRunRecord(await openDirectory(out));
    expect(steps.length).toBeLessThan(40);
    const losses = evaluations.map((evaluation) => evaluation.metrics["loss"]!);
    expect(evaluations.map(({ step }) => step)).toEqual(losses.map((_, i) => 2 * (i + 1)));
    expect(losses.at(-1), "the loss of the evaluation that stopped it").toBeGreaterThanOrEqual(losses.at(-2)!);
    expect(bestStep).toBe(steps.length - 2);
    expect(metrics["loss"]).toBeCloseTo(losses.at(-2)!, 5);
    // From 0.1 to 0.4 in two steps, then to 0.2 over the 38 that are left.
    expect(steps.slice(0, 2).map(({ learningRate }) => learningRate)).toEqual([0.1, 0.25]);
  });

  it("tries learning rates in short runs, and trains with the best on some of the examples", async () => {
    const out = path("out");
    const size = ["--data", smallData(16), "--epochs", "2", "--batch", "4", "--max-length", "16"];
    const method = ["--rank", "2", "--lr-search", "1e-5,1e-3,1e-2,0.1,1", "--lora-plus-ratio", "4"];
    const config = tiny.bert({ ...layerCount(2), vocab_size: 255 });
    const model = await writeModel(path("model"), config, { tokenizer: TOKENIZERS.example });
    const args = ["train", "--model", model, "--task", "sst2", ...method, ...size, "--out", out];
    const refused = await runCli([...args, "--examples", "17"]);
    expect(refused).toMatchObject({ code: 1, stdout: "" });
    expect(refused.stderr).toMatch(/sst2 takes 17 training examples, and the data have 16/);
    const withoutB = await runCli([...args, "--adapter", "vera"]);
    expect(withoutB).toMatchObject({ code: 2, stdout: "" });
    expect(withoutB.stderr).toMatch(
      /^--lora-plus-ratio: LoRA\+ gives LoRA's B a learning rate of its own; the adapter is vera\./m,
    );
    expect(readdirSync(path())).not.toContain("out");
    const result = await runCli([...args, "--examples", "8"]);
    expect(result.code, result.stderr).toBe(0);
    const { triedRates = [], settings, steps, options } = await readRunRecord(await openDirectory(out));
    expect(triedRates.map(({ learningRate }) => learningRate)).toEqual([1e-5, 1e-3, 1e-2, 0.1, 1]);
    const [best] = triedRates.toSorted(
      (a, b) => b.metrics["accuracy"]! - a.metrics["accuracy"]! || a.metrics["loss"]! - b.metrics["loss"]!,
    );
    const fast = { learningRate: 4 * best!.learningRate };
    const groups = [
      { match: "(?:^|\\.)(?:bias)$", weightDecay: 0, ...fast },
      { match: "(?:^|\\.)(?:lora_B\\.weight)$", ...fast },
    ];
    expect(settings).toMatchObject({ optimizer: { learningRate: best!.learningRate, groups } });
    expect(steps, "8 examples, 4 at a time, twice").toHaveLength(4);
    expect(options).toMatchObject({ examples: 8 });
    expect(readJson<object>(join(out, "learning-rates.json"))).toEqual({
      learningRate: best!.learningRate,
      tried: triedRates,
    });
  });

  it("writes nothing when the data is bad", async () => {
    const out = path("out");
    const data = smallData(4);
    writeFileSync(join(data, "train.tsv"), "sentence\tlabel\na fine film\t7\n");
    const args = ["train", "--model", "examples/model", "--task", "sst2", "--data", data, "--out", out];
    const result = await runCli(args);
    expect(result).toMatchObject({ code: 1, stdout: "" });
    expect(result.stderr).toMatch(/train\.tsv.*2|label/);
    expect(readdirSync(path())).not.toContain("out");
  });
});

describe("safetape study", () => {
  it("shares its cells among workers, writes tables, names what is missing, and does not repeat finished runs", async () => {
    const study = {
      model: join(process.cwd(), "examples/model"),
      tasks: [{ task: "sst2", name: "small", data: smallData(16), maxLength: 40, batch: 4, accumulate: 2 }],
      regimes: [{ name: "tiny", examples: 8, epochs: 2 }],
      earlyStopping: {},
      seeds: [1],
      methods: [
        { name: "LoRA", adapter: { kind: "lora", rank: 2 }, learningRate: { initial: 0, peak: 1e-3, final: 1e-4 } },
        {
          name: "upper",
          adapter: { kind: "lora", rank: 2 },
          freeze: { policy: "upper_layers", count: 1 },
          learningRate: { search: [1e-4, 3e-4, 1e-3, 3e-3, 1e-2], share: 0.5 },
        },
      ],
    };
    const file = path("small.json");
    writeFileSync(file, JSON.stringify(study));
    const out = path("out");
    const refused = await runCli(["study", file, "--out", out, "--cell", "3/3"]);
    expect(refused).toMatchObject({ code: 2, stdout: "" });
    expect(refused.stderr).toMatch(/number 3 of 3, and the study has 2 cells/);
    const tooLarge = path("large.json");
    const regimes = [...study.regimes, { name: "large", examples: 17, epochs: 1 }];
    writeFileSync(tooLarge, JSON.stringify({ ...study, regimes }));
    const early = await runCli(["study", tooLarge, "--out", out]);
    expect(early).toMatchObject({ code: 1, stdout: "" });
    expect(early.stderr, "before the first cell").toMatch(
      /^small, large takes 17 training examples, and the data have 16/,
    );
    expect(readdirSync(path())).not.toContain("out");
    const both = ["1/2", "2/2"].map((cell) => runCli(["study", file, "--out", out, "--cell", cell]));
    const workers = await Promise.all(both);
    for (const { code, stdout, stderr } of workers) {
      expect({ code, stdout }, stderr).toEqual({ code: 0, stdout: `1 of 2 cells, in ${out}\n` });
    }
    const cells = ["LoRA", "upper"].map((method) => `small-tiny--${method}--1.json`);
    expect(readdirSync(out).sort(), "no claim is left").toEqual([...cells, "study.json"]);
    rmSync(join(out, cells[0]!));
    const collected = await runCli(["study", file, "--out", out, "--collect", "--json"]);
    expect(collected.code, collected.stderr).toBe(0);
    expect(collected.stderr).toBe("missing: 1/2  small, tiny  LoRA  seed 1");
    const { rows, missing } = parseJson<{ rows: Config[]; missing: string[] }>(collected.stdout);
    expect(missing).toEqual(["small-tiny--LoRA--1"]);
    expect(rows).toMatchObject([{ method: "upper", frozenShare: 0.75, trainable: 4096, averageTrainable: 1024 }]);
    const second = await runCli(["study", file, "--out", out]);
    expect(second.code, second.stderr).toBe(0);
    expect(second.stderr.match(/ reused$/gm), "runs that were reused").toHaveLength(1);
    expect(readFileSync(join(out, "table.md"), "utf8")).toMatch(/^\| task \| method \| accuracy /);
    expect(second.stdout).toContain("| small, tiny | upper |");
    const { result } = readJson<{ result: RunResult }>(join(out, cells[1]!));
    expect(result.tried?.map(({ learningRate }) => learningRate)).toEqual([1e-4, 3e-4, 1e-3, 3e-3, 1e-2]);
    expect(result.split).toEqual({ train: 8, validation: 8, test: 8 });
    expect(result.freezes.map(({ step, layers }) => [step, layers])).toEqual([[0, [0, 1, 2]]]);
    expect(result.memory, "frozen before the first step").toEqual([[1, result.endBytes]]);
    expect(result.losses.map(([step]) => step)).toEqual(Array.from({ length: result.steps }, (_, i) => i + 1));
    expect(result.validation!.map(({ epoch }) => epoch)).toEqual(result.validation!.map((_, i) => i));
    expect(result.best!.loss).toBe(Math.min(...result.validation!.map(({ loss }) => loss)));
  });
});
