import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { adapterFile, adapterOfFile } from "../../src/adapter/file";
import type { LoadedWeights } from "../../src/adapter/file";
import { lora } from "../../src/adapter/lora";
import { ConfigError, FileFormatError, ShapeError } from "../../src/base/errors";
import { memoryDirectory } from "../../src/io/directory";
import { jsonBytes } from "../../src/io/json";
import { readAdapterDirectory, writeAdapterDirectory } from "../../src/io/peft";
import type { PeftAdapter, PeftConfig } from "../../src/io/peft";
import { headKey, stripPrefix, unwrappedKeys } from "../../src/io/peft-keys";
import { loraConfig, parseLoraConfig, rankOf, scaleOf } from "../../src/io/peft-lora";
import { isTarget } from "../../src/io/peft-match";
import { readFloatTensors } from "../../src/io/safetensors";
import type { FloatTensor } from "../../src/io/safetensors";
import { createModel } from "../../src/model/families";
import type { Model } from "../../src/model/model";
import { openDirectory } from "../../src/node/directory";
import { failure } from "../support/failure";
import { tiny } from "../support/tiny";

const DATA = fileURLToPath(new URL("../interop-data/", import.meta.url));
const CASES = readdirSync(DATA).flatMap((family) =>
  readdirSync(join(DATA, family))
    .filter((kind) => existsSync(join(DATA, family, kind, "adapter_config.json")))
    .map((kind) => ({ path: `${family}/${kind}`, base: `${family}/base` })),
);

const tensor = (...shape: number[]): FloatTensor => ({
  shape,
  data: new Float32Array(shape.reduce((product, size) => product * size, 1)),
});

const modelOf = async (base: string): Promise<Model> => {
  const bytes = await (await openDirectory(join(DATA, base))).read("config.json");
  // config.json is an object.
  return createModel(JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown>);
};

/** The weights of a base model, of which PiSSA and OLoRA take a part. */
const weightsOf = (base: string): LoadedWeights => ({
  isLoaded: () => Promise.resolve(false),
  read: async (name) => (await readFloatTensors(await openDirectory(join(DATA, base)), "model.safetensors")).get(name)!,
});

/** An adapter's files without the second half of an encoder-decoder's prompts, which nothing reads and which is not written. */
function withoutUnreadRows(files: PeftAdapter): PeftAdapter {
  const { config, tensors } = files;
  const key = "prompt_embeddings";
  const prompts = tensors.get(key);
  if (config["num_transformer_submodules"] !== 2 || !prompts) return files;
  const [rows, width] = [prompts.shape[0]! / 2, prompts.shape[1]!];
  const read = { ...prompts, shape: [rows, width], data: prompts.data.slice(0, rows * width) };
  return { config: { ...config, num_transformer_submodules: 1 }, tensors: new Map([...tensors, [key, read]]) };
}

describe.each(CASES)("an adapter that PEFT wrote, $path,", ({ path, base }) => {
  test("is read, and written again with the same keys, shapes, bytes and configuration", async () => {
    const source = await openDirectory(join(DATA, path));
    const stored = withoutUnreadRows(await readAdapterDirectory(source));
    const model = await modelOf(base);
    const loaded = weightsOf(base);
    const { adapter, tensors } = await adapterOfFile(stored, model, path, loaded);
    const file = adapterFile(adapter, model, tensors);
    // Of what is saved and has biases, PEFT's files have copies that nothing reads.
    const written = unwrappedKeys(file.tensors);
    expect(Object.fromEntries(written)).toEqual(Object.fromEntries(unwrappedKeys(stored.tensors)));
    expect(file.tensors.size, "each tensor once").toBe(written.size);
    for (const key of file.tensors.keys()) expect(stored.tensors.has(key), key).toBe(true);
    for (const [key, value] of Object.entries(file.config)) {
      if (value === null || value === undefined || !(key in stored.config) || key === "base_model_name_or_path")
        continue;
      const [actual, expected] = [value, stored.config[key]].map((each) =>
        Array.isArray(each) ? each.toSorted() : each,
      );
      // A file that has the last projection's weight, and names the table alone.
      const isUnnamed = key === "modules_to_save" && path === "gpt2/tied-head";
      if (expected !== null) expect(actual, key).toEqual(isUnnamed ? ["lm_head", "transformer.wte"] : expected);
    }
    const directory = memoryDirectory("copy");
    await writeAdapterDirectory(
      directory,
      file.config,
      [...file.tensors].map(([name, value]) => ({ name, ...value })),
    );
    expect(await directory.list()).toEqual(["adapter_config.json", "adapter_model.safetensors"]);
    const copy = await adapterOfFile(await readAdapterDirectory(directory), model, "copy", loaded);
    expect(copy.tensors).toEqual(tensors);
    expect(copy.adapter.peftConfig(model)).toEqual(adapter.peftConfig(model));
  });
});

test("the copies of PEFT's files are complete", () => {
  for (const { path } of CASES) {
    expect(readdirSync(join(DATA, path)).sort()).toEqual([
      "adapter_config.json",
      "adapter_model.safetensors",
      "expected.safetensors",
    ]);
  }
});

describe("keys of adapter files", () => {
  test("are those of PEFT", () => {
    expect(headKey("classifier.weight")).toBe("base_model.model.classifier.weight");
    expect(stripPrefix("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight")).toBe(
      "model.layers.0.self_attn.q_proj.lora_A.weight",
    );
    expect(stripPrefix("base_model.model.classifier.modules_to_save.weight")).toBe("classifier.weight");
    expect(stripPrefix("base_model.model.classifier.modules_to_save.default.weight")).toBe("classifier.weight");
    expect(stripPrefix("base_model.model.q.lora_A.default.weight")).toBe("q.lora_A.weight");
  });

  test("call the bias of an adapted module that of its base layer", async () => {
    const model = await modelOf("bert/base");
    const adapter = lora({ rank: 2, bias: "lora_only", layers: [1] });
    const shapes = new Map(model.parameters.map(({ name, shape }) => [name, shape]));
    const names = [
      ...adapter.tensors(model),
      ...(adapter.baseTensors?.(model) ?? []).map((name) => ({ name, shape: shapes.get(name)! })),
    ];
    const file = adapterFile(adapter, model, new Map(names.map(({ name, shape }) => [name, tensor(...shape)])));
    const query = "base_model.model.bert.encoder.layer.1.attention.self.query";
    expect([...file.tensors.keys()]).toContain(`${query}.base_layer.bias`);
    const { tensors } = await adapterOfFile(file, model, "here");
    expect([...tensors.keys()].sort()).toEqual(names.map(({ name }) => name).sort());
  });
});

describe("adapter files that do not fit the model", () => {
  type Change = (tensors: Map<string, FloatTensor>, config: Record<string, unknown>) => void;
  const A = "base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.weight";
  test.each<[string, Change, new (...args: never[]) => Error, RegExp]>([
    ["a missing matrix", (tensors) => tensors.delete(A), FileFormatError, /has no bert\.encoder\.layer\.0.*lora_A/],
    [
      "a matrix of another rank",
      (tensors) => tensors.set(A, tensor(3, 32)),
      ShapeError,
      /is \[3, 32\] in here, but \[4, 32\] for this model/,
    ],
    ["another rank in the configuration", (_, config) => (config["r"] = 5), ShapeError, /but \[5, 32\] for this model/],
    ["a vector in place of a matrix", (tensors) => tensors.set(A, tensor(32)), ShapeError, /is \[32\]/],
    [
      "a matrix of no module",
      (tensors) => tensors.set("base_model.model.wte.lora_embedding_A", tensor(2, 4)),
      FileFormatError,
      /has wte/,
    ],
    [
      "an unknown type of adapter",
      (_, config) => (config["peft_type"] = "BOFT"),
      ConfigError,
      /peft_type BOFT[\s\S]*LORA/,
    ],
    ["another type of adapter", (_, config) => (config["peft_type"] = "IA3"), FileFormatError, /has no .*ia3_l/],
    [
      "a saved head that the file lacks",
      (tensors) => tensors.delete("base_model.model.classifier.bias"),
      FileFormatError,
      /has no classifier\.bias, which its modules_to_save .*"classifier"/,
    ],
    [
      "the head of a task that the file lacks, and does not name",
      (tensors, config) => {
        config["modules_to_save"] = null;
        tensors.delete("base_model.model.classifier.weight");
      },
      FileFormatError,
      /has no classifier\.weight, which its modules_to_save/,
    ],
    [
      "a saved module of another model",
      (tensors, config) => {
        config["modules_to_save"] = ["lm_head"];
        tensors.set("base_model.model.lm_head.weight", tensor(2, 32));
      },
      FileFormatError,
      /modules_to_save lm_head, which this bert model does not have/,
    ],
    [
      "LoRA on a table",
      (tensors, config) => {
        config["target_modules"] = ["query", "value", "word_embeddings"];
        tensors.set("base_model.model.bert.embeddings.word_embeddings.lora_embedding_A", tensor(4, 83));
      },
      ConfigError,
      /target_modules\) name bert\.embeddings\.word_embeddings, which is no linear projection/,
    ],
    [
      "a pattern that looks ahead",
      (_, config) => (config["target_modules"] = "(?!.*value).*query"),
      ConfigError,
      /module pattern "\(\?!\.\*value\)\.\*query" \(target_modules, exclude_modules/,
    ],
    ["KaSA", (_, config) => (config["kasa_config"] = { beta: 1 }), ConfigError, /kasa_config/],
    [
      "targets that no module has",
      (_, config) => (config["target_modules"] = ["nothing"]),
      ConfigError,
      /No module of this bert model/,
    ],
  ])("are refused: %s", async (_, change, error, message) => {
    const stored = await readAdapterDirectory(await openDirectory(join(DATA, "bert/lora")));
    const [config, tensors] = [{ ...stored.config }, new Map(stored.tensors)];
    change(tensors, config);
    const model = await modelOf("bert/base");
    const read = (): unknown => adapterOfFile({ config, tensors }, model, "here");
    await expect(read()).rejects.toThrow(error);
    await expect(read()).rejects.toThrow(message);
  });
});

describe("adapter files that fit the model are read", () => {
  type Change = (tensors: Map<string, FloatTensor>, config: Record<string, unknown>) => void;
  const read = async (change: Change, kind = "bert/lora") => {
    const stored = await readAdapterDirectory(await openDirectory(join(DATA, kind)));
    const [config, tensors] = [{ ...stored.config }, new Map(stored.tensors)];
    change(tensors, config);
    const model = await modelOf(`${kind.split("/")[0]!}/base`);
    return { model, ...(await adapterOfFile({ config, tensors }, model, "here")) };
  };

  test("with names of other families among the targets, the saved modules and the patterns", async () => {
    const { adapter, model } = await read((_, config) => {
      config["target_modules"] = ["query", "value", "W_pack"];
      config["modules_to_save"] = ["classifier", "score", "lm_head"];
      config["rank_pattern"] = { W_pack: 7 };
    });
    expect(adapter.peftConfig(model)).toMatchObject({ target_modules: ["query", "value"], rank_pattern: {} });
    expect(adapter.baseTensors?.(model)).toEqual(["classifier.weight", "classifier.bias"]);
  });

  test("without a head, where neither the file nor its task names one", async () => {
    const { adapter, tensors, model } = await read((stored, config) => {
      config["modules_to_save"] = null;
      config["task_type"] = null;
      for (const part of ["weight", "bias"]) stored.delete(`base_model.model.classifier.${part}`);
    });
    expect(adapter.baseTensors?.(model)).toEqual([]);
    expect([...tensors.keys()].every((name) => name.includes(".lora_"))).toBe(true);
  });

  test("with a saved module's biases under three names, of which the module's own counts", async () => {
    const own = Float32Array.of(1, 2, 3);
    const { tensors } = await read((stored) => {
      stored.set("base_model.model.classifier.modules_to_save.bias", tensor(3));
      stored.set("base_model.model.classifier.bias", { shape: [3], data: own });
      stored.set("base_model.model.classifier.original_module.bias", tensor(3));
    });
    expect(tensors.get("classifier.bias")?.data).toEqual(own);
  });

  test.each(["module.", "_orig_mod.", "module._orig_mod.", "_forward_module."])(
    "with %s before the names of its tensors",
    async (prefix) => {
      for (const kind of ["bert/lora", "bert/vera", "bert/prompt", "llama/ia3"]) {
        const plain = await read(() => undefined, kind);
        const wrapped = await read((tensors) => {
          for (const [key, value] of [...tensors]) {
            tensors.delete(key);
            tensors.set(`${prefix}${key}`, value);
          }
        }, kind);
        expect(wrapped.tensors, kind).toEqual(plain.tensors);
      }
    },
  );

  test("with weights of the model itself, which do not learn and are saved again", async () => {
    const { adapter, model, tensors } = await read(() => undefined, "llama/kept-tables");
    const kept = ["model.embed_tokens.weight", "lm_head.weight"];
    expect(adapter.tensors(model).flatMap(({ name, isFixed }) => (isFixed ? [name] : []))).toEqual(kept);
    const none = { ...model, parameters: model.parameters.map((spec) => ({ ...spec, dtype: "f16" as const })) };
    const file = adapterFile(adapter, model, tensors);
    const error = await failure(adapterOfFile(file, none, "here"), ConfigError);
    expect(error.message).toMatch(/model\.embed_tokens\.weight of its own \(save_embedding_layers\).* as f16/);
    const known = await adapterOfFile(file, none, "here", {
      isLoaded: () => Promise.resolve(true),
      read: () => Promise.reject(new Error("is not read")),
    });
    expect(known.tensors.size, "what the model has already is left out").toBe(tensors.size - 2);
  });
});

test.each([
  ["ADALORA", "bert/adalora", { bias: "all" }, /sets bias: all for AdaLoRA, which is not implemented/],
  ["VERA", "bert/vera", { bias: "vera_only" }, /sets bias: vera_only for VeRA, which is not implemented/],
  ["VERA", "bert/vera", { save_projection: false }, /sets save_projection: false, which is not implemented/],
])("an option of %s that is not implemented is refused by its name: %s with %o", async (_, kind, option, message) => {
  const stored = await readAdapterDirectory(await openDirectory(join(DATA, kind)));
  const file = { config: { ...stored.config, ...option }, tensors: stored.tensors };
  expect((await failure(adapterOfFile(file, await modelOf("bert/base"), "here"), ConfigError)).message).toMatch(
    message,
  );
});

describe("targets and saved modules of an adapter", () => {
  test.each<[string, Parameters<typeof lora>[0], RegExp]>([
    ["a target that no module has", { targets: ["query", "valeu"] }, /No module .* is called "valeu"/],
    ["a saved module", { modulesToSave: ["classifier", "poler"] }, /modules_to_save names poler/],
    [
      "a pattern of ranks",
      { rankPattern: { "quer.": 2, k_proj: 3 } },
      /pattern "k_proj" of ranks or alphas matches no/,
    ],
    [
      "only saved modules",
      { targets: ["classifier"] },
      /matches the adapter's targets \["classifier"\], without what is excluded, saved/,
    ],
  ])("are refused where a name matches nothing: %s", async (_, options, message) => {
    const model = await modelOf("bert/base");
    const error = await failure(() => lora(options).tensors(model), ConfigError);
    expect(error.message).toMatch(message);
  });

  test("name no task in a file where the task's head is not saved, which PEFT would save", async () => {
    const model = await modelOf("bert/base");
    const task = (modulesToSave: readonly string[]) => lora({ modulesToSave }).peftConfig(model)["task_type"];
    expect([task(["classifier"]), task(["pooler.dense", "classifier"])]).toEqual(["SEQ_CLS", "SEQ_CLS"]);
    expect([task([]), task(["pooler.dense"])]).toEqual([null, null]);
    const adapted = lora({ rank: 1, targets: ["classifier"], modulesToSave: [] });
    const written = adapterFile(
      adapted,
      model,
      new Map(adapted.tensors(model).map(({ name, shape }) => [name, tensor(...shape)])),
    );
    const read = await adapterOfFile(written, model, "here");
    expect(read.adapter.tensors(model).map(({ name }) => name)).toEqual([
      "classifier.lora_A.weight",
      "classifier.lora_B.weight",
    ]);
  });

  test("are all linear ones, as in PEFT in letters of either case", async () => {
    const model = await modelOf("bert/base");
    const names = (targets: string) =>
      lora({ targets })
        .tensors(model)
        .map(({ name }) => name);
    expect(names("All-Linear")).toEqual(names("all-linear"));
  });

  test("are written by their names where a pattern matches more than projections", async () => {
    const model = await modelOf("bert/base");
    const written = (targets: string) => lora({ targets }).peftConfig(model)["target_modules"];
    expect(written(".*(query|value)")).toBe(".*(query|value)");
    expect(written(".*layer.0.attention.*")).toEqual(
      ["self.query", "self.key", "self.value", "output.dense"].map((end) => `bert.encoder.layer.0.attention.${end}`),
    );
  });
});

describe("the LoRA configuration", () => {
  const parse = (config: Record<string, unknown>) =>
    parseLoraConfig({ peft_type: "LORA", ...config }, "adapter_config.json");

  test("has PEFT's defaults", () => {
    expect(parse({})).toMatchObject({ r: 8, lora_alpha: 8, lora_dropout: 0, bias: "none", use_rslora: false });
  });

  test("gives ranks and scales by its patterns; rsLoRA divides by the root of the rank", () => {
    const config = parse({ r: 4, lora_alpha: 12, rank_pattern: { value: 6 }, alpha_pattern: { "0.*value": 9 } });
    const rslora = { ...config, use_rslora: true };
    const [query, value] = ["layer.0.self.query", "layer.0.self.value"];
    expect([rankOf(config, query), scaleOf(config, query)]).toEqual([4, 3]);
    expect([rankOf(config, value), scaleOf(config, value)]).toEqual([6, 1.5]);
    expect([scaleOf(rslora, query), scaleOf(rslora, value)]).toEqual([6, 9 / Math.sqrt(6)]);
    expect(rankOf(config, "layer.0.self.my_value"), "a pattern begins after a dot").toBe(4);
  });

  test("reads back as it was written", () => {
    const config = loraConfig({ r: 2, lora_alpha: 4, target_modules: ["query"], task_type: "SEQ_CLS" });
    expect(config).toMatchObject({
      peft_type: "LORA",
      r: 2,
      inference_mode: true,
      rank_pattern: {},
      modules_to_save: null,
    });
    expect(parseLoraConfig(config, "x")).toEqual(config);
  });

  test.each([
    ["another type of adapter", { peft_type: "IA3" }, FileFormatError, /peft_type/],
    ["rank 0", { r: 0 }, FileFormatError, /adapter_config.json: r: /],
    ["a rank in quotes", { r: "8" }, FileFormatError, /r: /],
    ["a dropout of 2", { lora_dropout: 2 }, FileFormatError, /lora_dropout/],
    ["a rank pattern of 0", { rank_pattern: { query: 0 } }, FileFormatError, /rank_pattern.query/],
    ["an unknown bias", { bias: "some" }, FileFormatError, /bias/],
    ["DoRA in quotes", { use_dora: "true" }, FileFormatError, /use_dora/],
    ["replicated layers", { layer_replication: [[0, 4]] }, ConfigError, /layer_replication/],
  ])("refuses %s", (_, config, error, message) => {
    expect(() => parse(config)).toThrow(error);
    expect(() => parse(config)).toThrow(message);
  });
});

describe("isTarget", () => {
  const all = {
    target_modules: null,
    exclude_modules: null,
    layers_to_transform: null,
    layers_pattern: null,
    modules_to_save: null,
  };

  test.each<[string, Partial<Parameters<typeof isTarget>[0]>, string, boolean]>([
    ["a suffix matches", { target_modules: ["query"] }, "bert.encoder.layer.0.attention.self.query", true],
    [
      "a suffix of two parts matches both",
      { target_modules: ["output.dense"] },
      "bert.layer.0.attention.output.dense",
      true,
    ],
    ["a suffix does not match within a part", { target_modules: ["dense"] }, "bert.predense", false],
    ["a whole name matches", { target_modules: ["classifier"] }, "classifier", true],
    ["a pattern matches a whole path", { target_modules: ".*\\.[qv]_proj" }, "model.layers.0.self_attn.q_proj", true],
    [
      "a pattern does not match a part of a path",
      { target_modules: "q_proj" },
      "model.layers.0.self_attn.q_proj",
      false,
    ],
    ["without targets nothing matches", {}, "query", false],
    [
      "a module of a chosen layer matches",
      { target_modules: ["query"], layers_to_transform: [0, 2] },
      "bert.layer.2.query",
      true,
    ],
    [
      "a module of another layer does not match",
      { target_modules: ["query"], layers_to_transform: 1 },
      "bert.layer.2.query",
      false,
    ],
    [
      "a module outside of layers does not match",
      { target_modules: ["query"], layers_to_transform: [0] },
      "bert.query",
      false,
    ],
    [
      "an empty list of layers stands for all layers",
      { target_modules: ["query"], layers_to_transform: [] },
      "bert.layer.2.query",
      true,
    ],
    [
      "layers_pattern names the list of layers",
      { target_modules: ["q"], layers_to_transform: [1], layers_pattern: "h" },
      "transformer.h.1.experts.0.q",
      true,
    ],
    [
      "the first number is the layer's",
      { target_modules: ["q"], layers_to_transform: [1] },
      "decoder.block.1.layer.0.SelfAttention.q",
      true,
    ],
    [
      "layers_pattern may name several lists of layers",
      { target_modules: ["q"], layers_to_transform: [0], layers_pattern: ["blocks", "experts"] },
      "transformer.h.1.experts.0.q",
      true,
    ],
    [
      "an excluded module does not match",
      { target_modules: ["dense"], exclude_modules: ["pooler.dense"] },
      "bert.pooler.dense",
      false,
    ],
    [
      "nor one that an excluding pattern matches completely",
      { target_modules: ".*dense", exclude_modules: ".*\\.0\\..*" },
      "bert.layer.0.dense",
      false,
    ],
    [
      "an excluding pattern does not match a part of a path",
      { target_modules: ["dense"], exclude_modules: "pooler" },
      "bert.pooler.dense",
      true,
    ],
    [
      "a module within a saved one does not match",
      { target_modules: ["dense"], modules_to_save: ["classifier", "score"] },
      "classifier.dense",
      false,
    ],
    [
      "nor a saved one below others",
      { target_modules: ["out_proj"], modules_to_save: ["head.out_proj"] },
      "model.head.out_proj",
      false,
    ],
    [
      "a saved name is a part of the path between dots",
      { target_modules: ["pre_classifier"], modules_to_save: ["classifier"] },
      "pre_classifier",
      true,
    ],
  ])("%s", (_, config, module, expected) => {
    expect(isTarget({ ...all, ...config }, module)).toBe(expected);
  });

  test("a pattern that is invalid or unsupported is refused", () => {
    expect(() => isTarget({ ...all, target_modules: "(" }, "x")).toThrow(ConfigError);
    expect(() => isTarget({ ...all, target_modules: "(?!vision).*" }, "x")).toThrow(
      /module pattern "\(\?!vision\)\.\*"/,
    );
  });
});

describe("patterns of ranks and alphas", () => {
  // Families whose modules have other names in transformers 5 than in files that were published before.
  const renamed = Object.entries(tiny).flatMap(([family, config]) => {
    const model = createModel(config());
    const hasOthers = model.projections.some(({ name }) => model.renamed && model.renamed(name) !== name);
    return hasOthers ? [[family, model] as const] : [];
  });

  test("are tried on every family with other names in transformers 5", () => {
    expect(renamed.map(([family]) => family)).toEqual(["gpt_neox", "vit", "deit", "dinov2", "swin"]);
  });

  test.each(renamed)("follow the names of a file's modules: %s", async (_, model) => {
    const [first = "", second = ""] = new Set(model.projections.map(({ name }) => name.split(".").at(-1)!));
    const rankPattern = { [model.projections[0]!.name]: 1, [first]: 3, [second]: 4 };
    const adapter = lora({
      rank: 2,
      targets: "all-linear",
      rankPattern,
      alphaPattern: { [first]: 5 },
      modulesToSave: [],
    });
    const own = parseLoraConfig(adapter.peftConfig(model), "the adapter");
    const tensors = new Map(adapter.tensors(model).map(({ name, shape }) => [name, tensor(...shape)]));
    for (const transformers of [4, 5] as const) {
      const file = adapterFile(adapter, model, tensors, transformers);
      const config = parseLoraConfig(file.config, "the file");
      const ranks = model.projections.flatMap(({ name }) => {
        const module = transformers === 5 ? model.renamed!(name) : name;
        const matrix = file.tensors.get(headKey(`${module}.lora_A.weight`));
        if (!matrix) return [];
        // What PEFT makes of the file, by the module's path in the model.
        expect(scaleOf(config, module), `scale of ${module}`).toBe(scaleOf(own, name));
        expect(rankOf(config, module), `rank of ${module}`).toBe(matrix.shape[0]);
        return [rankOf(config, module)];
      });
      expect([...new Set(ranks)].sort(), "ranks").toEqual([1, 2, 3, 4]);
      expect((await adapterOfFile(file, model, "the file")).tensors).toEqual(tensors);
    }
  });
});

describe("damaged adapter directories", () => {
  const config = jsonBytes({ peft_type: "LORA" });

  test.each<[string, Record<string, Uint8Array>, RegExp]>([
    ["no configuration", { "adapter_model.safetensors": new Uint8Array(8) }, /no file adapter_config.json/],
    ["no weights", { "adapter_config.json": config }, /no file adapter_model.safetensors/],
    ["no type of adapter", { "adapter_config.json": jsonBytes({ r: 8 }) }, /adapter_config.json in x: .*peft_type/],
    ["truncated weights", { "adapter_config.json": config, "adapter_model.safetensors": new Uint8Array(4) }, /too few/],
  ])("are refused: %s", async (_, files, message) => {
    const error = await failure(readAdapterDirectory(memoryDirectory("x", files)), FileFormatError);
    expect(error.message).toMatch(message);
  });

  test("do not come from a write that fails: the previous adapter stays", async () => {
    const directory = memoryDirectory("x");
    const lora: PeftConfig = loraConfig({});
    await writeAdapterDirectory(directory, lora, [{ name: "a", ...tensor(2) }]);
    const before = await readAdapterDirectory(directory);
    const failing = { name: "a", shape: [1], data: () => Promise.reject(new Error("lost")) };
    await expect(writeAdapterDirectory(directory, { ...lora, r: 1 }, [failing])).rejects.toThrow("lost");
    expect(await readAdapterDirectory(directory)).toEqual(before);
  });
});
