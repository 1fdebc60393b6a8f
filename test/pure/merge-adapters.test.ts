import { readdirSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { describe, expect, test } from "vitest";
import { mergeAdapters } from "safetape/analysis";
import type { MergeAdaptersOptions, MergeMethod } from "safetape/analysis";
import { memoryDirectory } from "safetape/data";
import { ConfigError, FileFormatError, ShapeError } from "safetape/engine";
import { mergedTasks } from "../../src/adapter/task-vectors";
import type { TaskMethod } from "../../src/adapter/task-vectors";
import { withUpdate } from "../../src/adapter/low-rank";
import { Random } from "../../src/base/random";
import { relativeError } from "../../src/base/relative-error";
import type { Directory } from "../../src/io/directory";
import { mergeCommand } from "../../src/cli/merge";
import { openDirectory } from "../../src/node/directory";
import { readAdapterDirectory, writeAdapterDirectory } from "../../src/io/peft";
import { useFolder } from "../support/folder";
import { failure } from "../support/failure";
import { readJson } from "../support/json";

interface Numbers {
  readonly shape: readonly number[];
  readonly data: readonly number[];
}

interface MergedByPeft {
  readonly configs: Readonly<Record<string, object>>;
  readonly tensors: Readonly<Record<string, Readonly<Record<string, Numbers>>>>;
  readonly cases: readonly {
    readonly method: MergeMethod;
    readonly adapters: readonly string[];
    readonly weights: readonly number[];
    readonly density?: number;
    readonly sign?: "total" | "frequency";
    readonly rank?: number;
    readonly modules: Readonly<Record<string, { readonly rank: number; readonly product: Numbers }>>;
  }[];
  readonly dare: {
    readonly tasks: readonly (readonly number[])[];
    readonly weights: readonly number[];
    readonly density: number;
    readonly draws: readonly number[];
  } & Readonly<Record<"dare_linear" | "dare_ties total" | "dare_ties frequency", readonly number[]>>;
}

// Made by test/interop/merge.py.
const { configs, tensors, cases, dare } = readJson<MergedByPeft>("test/interop/merge.json");

/** One of the adapters as a directory, with a changed configuration or further tensors. */
async function directoryOf(
  name: string,
  change: object = {},
  more: Readonly<Record<string, Numbers>> = {},
  directory: Directory = memoryDirectory(name),
) {
  const entries = Object.entries({ ...tensors[name], ...more });
  const written = entries.map(([key, { shape, data }]) => ({ name: key, shape, data: Float32Array.from(data) }));
  await writeAdapterDirectory(directory, { peft_type: "LORA", ...configs[name], ...change }, written);
  return directory;
}

async function productOf(directory: Directory, module: string) {
  const { config, tensors: merged } = await readAdapterDirectory(directory);
  const factor = (part: string) => merged.get(`base_model.model.${module}.lora_${part}.weight`)!;
  const [a, b] = [factor("A"), factor("B")];
  const shape = [b.shape[0]!, a.shape[1]!];
  const zero = { shape, data: new Float32Array(shape[0]! * shape[1]!) };
  expect([config["r"], config["lora_alpha"], config["use_rslora"]]).toEqual([a.shape[0], a.shape[0], false]);
  return withUpdate(zero, { a, b, scale: 1 }, false).data;
}

test.each(cases)("$method of $adapters with $weights, density $density, $sign: as PEFT", async (merging) => {
  const { method, weights, density, sign, rank, modules } = merging;
  const adapters = await Promise.all(
    merging.adapters.map(async (name, i) => ({ adapter: await directoryOf(name), weight: weights[i]! })),
  );
  const out = memoryDirectory("out");
  const options: MergeAdaptersOptions = {
    method,
    ...(density !== undefined && { density }),
    ...(sign && { majoritySign: sign }),
    ...(rank !== undefined && { rank }),
  };
  const result = await mergeAdapters(adapters, out, options);
  expect(result.modules).toBe(Object.keys(modules).length);
  for (const [module, { product }] of Object.entries(modules)) {
    expect(relativeError(await productOf(out, module), Float32Array.from(product.data)), module).toBeLessThan(1e-5);
  }
});

test("has a model card, with the base model that all of them name", async () => {
  const named = async (name: string, base: string) => ({
    adapter: await directoryOf(name, { base_model_name_or_path: base, task_type: "CAUSAL_LM" }),
    weight: 0.5,
  });
  const cardOf = async (bases: readonly [string, string], options: MergeAdaptersOptions = {}) => {
    const out = memoryDirectory("out");
    await mergeAdapters([await named("one", bases[0]), await named("two", bases[1])], out, {
      method: "cat",
      ...options,
    });
    return (await out.size("README.md")) === undefined
      ? undefined
      : new TextDecoder().decode(await out.read("README.md"));
  };
  const card = await cardOf(["owner/name", "owner/name"]);
  expect(card).toMatch(/^---\nbase_model: owner\/name\nlibrary_name: peft\npipeline_tag: text-generation\n/);
  expect(card).toMatch(
    /in PEFT's layout \(`LORA`\), merged by safetape\.\n\nMerged of 2 LoRA adapters by the method `cat`, with the weights 0\.5, 0\.5\./,
  );
  // Two models, a folder of this repository, and a path.
  for (const bases of [
    ["owner/a", "owner/b"],
    ["examples/model", "examples/model"],
    ["/a/b", "/a/b"],
  ] as const) {
    expect(await cardOf(bases)).toMatch(/^---\nlibrary_name: peft\n/);
  }
  expect(await cardOf(["/a/b", "/a/b"], { card: { baseModel: "c/d" } })).toMatch(/^---\nbase_model: c\/d\n/);
  expect(await cardOf(["owner/name", "owner/name"], { card: false })).toBeUndefined();
});

const folder = useFolder();
test("is written to a path, an address and a directory alike", async () => {
  const adapters = [{ adapter: await directoryOf("one") }];
  const places = [folder("by-path"), pathToFileURL(folder("by-address"))];
  for (const place of places) await mergeAdapters(adapters, place);
  const [byPath, byAddress] = await Promise.all(
    places.map(async (place) => readAdapterDirectory(await openDirectory(place))),
  );
  expect(byPath).toEqual(byAddress);
  expect(byPath!.tensors.size).toBeGreaterThan(0);
});

describe("DARE", () => {
  const tasks = dare.tasks.map((task) => Float32Array.from(task));
  test.each<[TaskMethod, "total" | "frequency", readonly number[]]>([
    ["dare_linear", "total", dare.dare_linear],
    ["dare_ties", "total", dare["dare_ties total"]],
    ["dare_ties", "frequency", dare["dare_ties frequency"]],
  ])("%s with given masks, %s: as PEFT", (method, majoritySign, expected) => {
    const draws = [...dare.draws];
    const options = { method, majoritySign, density: dare.density, draw: () => draws.shift()! };
    const actual = mergedTasks(tasks, dare.weights, options);
    expect(relativeError(actual, Float32Array.from(expected))).toBeLessThan(1e-6);
    expect(draws).toEqual([]);
  });

  test("keeps the mean of what it merges, and follows from its seed", async () => {
    const random = new Random(2);
    const options = {
      method: "dare_linear",
      majoritySign: "total",
      density: 0.3,
      draw: () => random.uniform(),
    } as const;
    const merged = mergedTasks([new Float32Array(20_000).fill(2)], [0.5], options);
    const mean = merged.reduce((sum, value) => sum + value, 0) / merged.length;
    // The deviation of the mean is sqrt((1 - 0.3) / 0.3 / 20000) = 0.011.
    expect(Math.abs(mean - 1)).toBeLessThan(0.05);
    const productBy = async (seed: number) => {
      const out = memoryDirectory("out");
      const both = [{ adapter: await directoryOf("one") }, { adapter: await directoryOf("two") }];
      await mergeAdapters(both, out, { method: "dare_ties", density: 0.5, seed });
      return productOf(out, "first");
    };
    expect(await productBy(1)).toEqual(await productBy(1));
    expect(await productBy(1)).not.toEqual(await productBy(2));
  });
});

describe("safetape merge", () => {
  const path = useFolder();

  test("reads weights behind colons, and writes what mergeAdapters does", async () => {
    const lines: string[] = [];
    const run = (places: readonly string[], raw: object) =>
      mergeCommand(places, { out: path("out"), ...raw }, (line) => lines.push(line));
    for (const name of ["one", "two"])
      await directoryOf(name, {}, {}, await openDirectory(path(name), { create: true }));
    await run([`${path("one")}:0.7`, `${path("two")}:-4e-1`], { method: "cat" });
    expect(lines).toEqual([`LoRA of rank 4 in 2 modules, in ${path("out")}`]);
    const { product } = cases.find(({ method }) => method === "cat")!.modules["first"]!;
    const actual = await productOf(await openDirectory(path("out")), "first");
    expect(relativeError(actual, Float32Array.from(product.data))).toBeLessThan(1e-5);
    const again = run([path("one"), path("two")], { method: "ties" });
    expect((await failure(again)).message).toMatch(/has the results of an earlier run: adapter_config\.json, /);
    await run([path("one"), path("two")], {
      overwrite: true,
      method: "ties",
      density: "0.5",
      majoritySignMethod: "frequency",
      json: true,
    });
    expect(JSON.parse(lines[1]!)).toMatchObject({ modules: 2, rank: 2 });
    expect((await failure(run([], {}))).message).toMatch(/No adapters are named/);
    expect((await failure(run([path("one")], { method: "mean" }))).message).toMatch(/mean/);
  });

  test("takes what follows a directory's name for a weight, which is a number, and leaves nothing where it refuses", async () => {
    for (const place of ["one", "one:b"])
      await directoryOf("one", {}, {}, await openDirectory(path(place), { create: true }));
    const run = (...places: readonly string[]) => mergeCommand(places, { out: path("out") }, () => undefined);
    for (const weight of ["x", "", "0.5x"]) {
      const error = await failure(run(`${path("one")}:${weight}`));
      expect(error.message).toBe(
        `The weight of ${path("one")} is ${JSON.stringify(weight)}.\nGive a number: ${path("one")}:0.5.`,
      );
    }
    expect((await failure(run(path("three")))).fact).toBe(`merge: there is no directory ${path("three")}.`);
    expect((await failure(run(path("one"), `${path("one")}:1e999`))).message).toMatch(/weight/);
    expect(readdirSync(path()).sort()).toEqual(["one", "one:b"]);
    await run(path("one:b"), `${path("one")}:.5`);
  });
});

describe("what is not merged", () => {
  const merge = async (second: Directory, options: MergeAdaptersOptions = {}, weight = 1) => {
    const out = memoryDirectory("out");
    const error = await failure(
      mergeAdapters([{ adapter: await directoryOf("one") }, { adapter: second, weight }], out, options),
    );
    expect(await out.list(), "nothing is written").toEqual([]);
    return error;
  };

  test.each<[object, RegExp]>([
    [{ peft_type: "IA3" }, /two is of kind IA3/],
    [{ use_dora: true }, /two is a DoRA/],
    [{ init_lora_weights: "pissa" }, /two has init_lora_weights "pissa", so that its base is another one/],
    [{ bias: "lora_only" }, /two trains biases \(bias: lora_only\)/],
  ])("an adapter with %o", async (change, message) => {
    const error = await merge(await directoryOf("two", change));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toMatch(message);
  });

  test("saved modules, as in PEFT", async () => {
    const head = { "base_model.model.classifier.weight": { shape: [1], data: [1] } };
    expect((await merge(await directoryOf("two", {}, head))).message).toMatch(
      /two has classifier\.weight: saved modules/,
    );
  });

  test("factors of another model, or of each other", async () => {
    const other = { shape: [2, 6], data: Array<number>(12).fill(1) };
    const error = await merge(await directoryOf("two", {}, { "base_model.model.first.lora_A.weight": other }));
    expect(error).toBeInstanceOf(ShapeError);
    expect(error.message).toMatch(/first is a weight \[4, 6\] in two, and \[4, 5\] in one/);
    const torn = await merge(
      await directoryOf(
        "two",
        {},
        { "base_model.model.third.lora_B.weight": { shape: [3, 2], data: [1, 2, 3, 4, 5, 6] } },
      ),
    );
    expect(torn).toBeInstanceOf(FileFormatError);
    expect(torn.message).toMatch(/two has for third lora_A missing and lora_B \[3, 2\]/);
  });

  test("no bases but their shapes, whose names are told", async () => {
    const named = async (name: string, base: string) => ({
      adapter: await directoryOf(name, { base_model_name_or_path: base }),
    });
    const both = [await named("one", "owner/a"), await named("two", "owner/b")];
    const { baseModels } = await mergeAdapters(both, memoryDirectory("out"));
    expect(baseModels).toEqual(["owner/a", "owner/b"]);
  });

  test("unequal ranks, by methods that merge A and B", async () => {
    const { message } = await merge(await directoryOf("patterned"), { method: "ties", density: 0.5 });
    expect(message).toMatch(/first has rank 3 in patterned and 2 in one, which ties does not merge.*ties_svd/s);
  });

  test.each<[MergeAdaptersOptions, RegExp]>([
    // Plain JavaScript may pass any text.
    [{ method: "mean" as "svd" }, /no method mean.*svd, linear, cat/s],
    [{ method: "ties" }, /ties keeps a share of elements, and the density is not given/],
    [{ method: "dare_linear", density: 0 }, /density is 0.*for DARE above 0/s],
    [{ method: "linear", rank: 2 }, /rank is 2, of a result by linear/],
    // So it may here.
    [{ method: "ties", density: 0.5, majoritySign: "mean" as "total" }, /majority's sign is that of mean/],
  ])("%o", async (options, message) => {
    expect((await merge(await directoryOf("two"), options)).message).toMatch(message);
  });

  test("a weight that is no number, and nothing at all", async () => {
    expect((await merge(await directoryOf("two"), {}, NaN)).message).toMatch(/weight of two is NaN/);
    expect((await failure(mergeAdapters([], memoryDirectory("out")))).message).toMatch(/no adapters to merge/);
  });
});
