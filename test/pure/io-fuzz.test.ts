import { adapterOfFile } from "../../src/adapter/file";
import { createModel } from "../../src/model/families";
import { readFileSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { SafetapeError } from "../../src/base/errors";
import { GLUE_TASKS } from "../../src/data/glue-tasks";
import type { GlueTaskName } from "../../src/data/glue-tasks";
import { readGlue } from "../../src/data/glue";
import { loadTokenizer } from "../../src/data/tokenizer";
import { openCheckpoint } from "../../src/io/checkpoint";
import { contentBytes, memoryDirectory } from "../../src/io/directory";
import type { Directory } from "../../src/io/directory";
import { readAdapterDirectory } from "../../src/io/peft";
import { parseLoraConfig, rankOf, scaleOf } from "../../src/io/peft-lora";
import { isTarget } from "../../src/io/peft-match";
import { readSafetensors } from "../../src/io/safetensors";
import { safetensorsContent } from "../../src/io/safetensors-write";

const DATA = fileURLToPath(new URL("../interop-data/", import.meta.url));
const RUNS = Number(process.env["SAFETAPE_FUZZ_RUNS"] ?? 2000);
const SEED = Number(process.env["SAFETAPE_FUZZ_SEED"] ?? 1);
const encoder = new TextEncoder();

/**
 * What a hostile file may do: anything that ends in a SafetapeError or a result. Every read must stay within the file's
 * size, and no call may take longer than a second.
 */
async function survives(files: Readonly<Record<string, Uint8Array>>, action: (directory: Directory) => Promise<void>) {
  const inner = memoryDirectory("hostile", files);
  const watched: Directory = {
    ...inner,
    read: async (file, start = 0, end) => {
      const size = (await inner.size(file)) ?? 0;
      if ((end ?? size) - start > size) throw new Error(`${(end ?? size) - start} bytes were asked of ${size}`);
      return inner.read(file, start, end);
    },
  };
  const begin = performance.now();
  try {
    await action(watched);
  } catch (error) {
    if (!(error instanceof SafetapeError)) throw error;
    expect(error.fact, "an error's fact is one line").not.toContain("\n");
    expect(error.remedy, "an error's remedy is one line").not.toMatch(/^$|\n/);
  }
  expect(Object.keys(Object.prototype), "a prototype was polluted").toEqual([]);
  expect(performance.now() - begin, "milliseconds that one input took").toBeLessThan(1000);
}

/** Prints a counterexample as text. */
function readable(bytes: Uint8Array): Uint8Array {
  const text = new TextDecoder("latin1").decode(bytes);
  return Object.assign(bytes, {
    [fc.toStringMethod]: () => JSON.stringify(text.length > 400 ? `${text.slice(0, 400)}...` : text),
  });
}

/** Bytes changed, removed, repeated and inserted, a few at a time. */
function mutated(original: Uint8Array): fc.Arbitrary<Uint8Array> {
  const at = fc.nat(Math.max(0, original.length - 1));
  const edit = fc.oneof(
    fc.record({ at, remove: fc.constant(1), insert: fc.uint8Array({ minLength: 1, maxLength: 1 }) }),
    fc.record({ at, remove: fc.nat(20), insert: fc.uint8Array({ maxLength: 8 }) }),
    fc.record({ at, remove: fc.nat(3), insert: fc.constantFrom(...TOKENS).map((token) => encoder.encode(token)) }),
    fc.record({ at, remove: fc.constant(original.length), insert: fc.constant(new Uint8Array(0)) }),
  );
  return fc.array(edit, { minLength: 1, maxLength: 4 }).map((edits) =>
    readable(
      edits.reduce((bytes, { at, remove, insert }) => {
        const result = new Uint8Array([...bytes.subarray(0, at), ...insert, ...bytes.subarray(at + remove)]);
        return result;
      }, original),
    ),
  );
}

const TOKENS = [
  "-",
  "9",
  "e99",
  "0",
  "null",
  "[]",
  "{}",
  '"',
  "\\",
  ",",
  "1.5",
  "true",
  "../",
  "\n",
  "\t",
  '"__proto__":{}',
];

/** Odd JSON values in place of those of a file, at any depth. */
function mutatedJson(original: unknown): fc.Arbitrary<Uint8Array> {
  const paths = pathsOf(original);
  const odd = fc.oneof(
    fc.constantFrom(...ODD),
    fc.constantFrom(
      "../x",
      "/etc/passwd",
      "x/y.safetensors",
      ".*.*.*.*x",
      "(a*)*b",
      "\u0000",
      "__proto__",
      "(".repeat(50),
    ),
    fc.jsonValue({ maxDepth: 2 }),
  );
  const edit = fc.record({ path: fc.constantFrom(...paths), value: odd });
  return fc.array(edit, { minLength: 1, maxLength: 3 }).map((edits) => {
    const copy = structuredClone(original);
    return readable(
      encoder.encode(JSON.stringify(edits.reduce((value, { path, value: v }) => replaceAt(value, path, v), copy))),
    );
  });
}

const ODD = [
  null,
  -1,
  0,
  1.5,
  2 ** 31,
  2 ** 53,
  1e308,
  -0,
  true,
  "",
  "x",
  [],
  {},
  [null],
  { length: 1e9 },
  [[1, 2]],
] as const;

function pathsOf(value: unknown, path: readonly string[] = []): (readonly string[])[] {
  if (value === null || typeof value !== "object") return [path];
  return [path, ...Object.entries(value).flatMap(([key, part]) => pathsOf(part, [...path, key]))];
}

function replaceAt(value: unknown, [key, ...rest]: readonly string[], by: unknown): unknown {
  if (key === undefined) return structuredClone(by);
  if (value === null || typeof value !== "object") return value;
  const record = value as Record<string, unknown>;
  record[key] = replaceAt(record[key], rest, by);
  return record;
}

function bytesOf(path: string): Uint8Array {
  return new Uint8Array(readFileSync(`${DATA}${path}`));
}

function jsonOf(path: string): unknown {
  return JSON.parse(readFileSync(`${DATA}${path}`, "utf8"));
}

const SMALL = contentBytes(
  safetensorsContent([
    { name: "a.weight", shape: [3, 2], data: Float32Array.of(1, 2, 3, 4, 5, 6) },
    { name: "b", shape: [2], data: Int32Array.of(7, 8) },
    { name: "empty", shape: [0], data: new Float32Array(0) },
  ]),
);

describe(`${RUNS} hostile inputs each, from seed ${SEED}`, () => {
  const check = <T>(input: fc.Arbitrary<T>, action: (value: T) => Promise<void>): Promise<void> =>
    fc.assert(fc.asyncProperty(input, action), { numRuns: RUNS, seed: SEED });

  test("safetensors, bytes", async () => {
    await check(mutated(await SMALL), (bytes) =>
      survives({ "x.safetensors": bytes }, async (directory) => {
        const tensors = await readSafetensors(directory, "x.safetensors");
        let elements = 0;
        for (const [name, { shape, data }] of tensors) {
          expect(data.length, `elements of ${name}`).toBe(shape.reduce((product, size) => product * size, 1));
          elements += data.length;
        }
        expect(elements * 4, "bytes in memory").toBeLessThanOrEqual(4 * bytes.length);
      }),
    );
  });

  test("safetensors, header values", async () => {
    const header = {
      __metadata__: { format: "pt" },
      a: { dtype: "F32", shape: [3, 2], data_offsets: [0, 24] },
      b: { dtype: "I64", shape: [1], data_offsets: [24, 32] },
      c: { dtype: "BF16", shape: [0], data_offsets: [32, 32] },
    };
    await check(mutatedJson(header), (json) => {
      const bytes = new Uint8Array(8 + json.length + 32);
      new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
      bytes.set(json, 8);
      return survives({ "x.safetensors": bytes }, async (directory) => {
        await readSafetensors(directory, "x.safetensors");
      });
    });
  });

  test("config.json, bytes and values", async () => {
    const weights = await SMALL;
    const config = jsonOf("bert/base/config.json");
    await check(fc.oneof(mutated(bytesOf("bert/base/config.json")), mutatedJson(config)), (bytes) =>
      survives({ "config.json": bytes, "model.safetensors": weights }, async (directory) => {
        const checkpoint = await openCheckpoint(directory);
        expect(Object.getPrototypeOf(checkpoint.config), "a prototype came from the file").toBe(Object.prototype);
      }),
    );
  });

  test("model.safetensors.index.json, bytes and values", async () => {
    const shard = await SMALL;
    const index = { metadata: { total_size: 32 }, weight_map: { "a.weight": "one.safetensors", b: "one.safetensors" } };
    const bytes = encoder.encode(JSON.stringify(index));
    await check(fc.oneof(mutated(bytes), mutatedJson(index)), (hostile) =>
      survives(
        { "config.json": encoder.encode("{}"), "model.safetensors.index.json": hostile, "one.safetensors": shard },
        async (directory) => {
          const checkpoint = await openCheckpoint(directory);
          for (const name of checkpoint.names()) await checkpoint.read(name);
        },
      ),
    );
  });

  test("adapter_config.json, bytes and values", async () => {
    const weights = bytesOf("bert/rslora/adapter_model.safetensors");
    const path = "bert/rslora/adapter_config.json";
    const modules = Array.from({ length: 24 }, (_, layer) => `bert.encoder.layer.${layer}.attention.self.query`);
    const model = createModel(jsonOf("bert/base/config.json") as Record<string, unknown>);
    await check(fc.oneof(mutated(bytesOf(path)), mutatedJson(jsonOf(path))), (bytes) =>
      survives({ "adapter_config.json": bytes, "adapter_model.safetensors": weights }, async (directory) => {
        const { config, tensors } = await readAdapterDirectory(directory);
        const lora = parseLoraConfig(config, "adapter_config.json");
        adapterOfFile({ config, tensors }, model, "adapter_config.json");
        for (const module of modules) {
          isTarget(lora, module);
          expect(rankOf(lora, module), "a rank").toBeGreaterThan(0);
          expect(scaleOf(lora, module), "a scale").not.toBeNaN();
        }
      }),
    );
  });

  test.each(readdirSync(`${DATA}tokenizers`).filter((name) => !name.includes(".")))(
    "tokenizer.json and its configuration, bytes and values: %s",
    async (name) => {
      const path = `tokenizers/${name}/tokenizer.json`;
      const config = bytesOf(`tokenizers/${name}/tokenizer_config.json`);
      const json = fc.oneof(mutated(bytesOf(path)), mutatedJson(jsonOf(path)));
      await check(fc.tuple(json, fc.oneof(fc.constant(config), mutated(config))), ([tokenizer, more]) =>
        survives({ "tokenizer.json": tokenizer, "tokenizer_config.json": more }, async (directory) => {
          const loaded = await loadTokenizer(directory);
          const { ids, typeIds } = loaded.encode("the film is not boring", "never", { maxLength: 9 });
          expect(typeIds.length).toBe(ids.length);
          expect(ids.length).toBeLessThanOrEqual(9);
          loaded.decode(ids);
        }),
      );
    },
  );

  test("GLUE files, bytes", async () => {
    const rows = [
      "index\tsentence1\tsentence2\tlabel",
      "0\tone.\ttwo.\tentailment",
      "1\tThree?\tfour\tnot_entailment",
      "",
    ];
    const tasks = Object.keys(GLUE_TASKS) as GlueTaskName[];
    const original = encoder.encode(rows.join("\r\n"));
    await check(fc.tuple(mutated(original), fc.constantFrom<GlueTaskName>("rte", "rte", ...tasks)), ([bytes, task]) =>
      survives({ "train.tsv": bytes }, async (directory) => {
        const { examples, labelNames } = await readGlue(directory, "train.tsv", task);
        for (const { text, label } of examples) {
          expect(text.trim()).not.toBe("");
          if (labelNames !== undefined) expect(labelNames[label], `label ${label}`).toBeDefined();
        }
      }),
    );
  });
});
