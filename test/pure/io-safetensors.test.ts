import { readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { DtypeError, FileFormatError, ShapeError } from "../../src/base/errors";
import { encodeBf16, encodeF16 } from "../../src/base/float";
import { contentBytes, memoryDirectory } from "../../src/io/directory";
import type { Directory } from "../../src/io/directory";
import { readFloats, readHeader, readSafetensors, readSafetensorsHeader, readTensor } from "../../src/io/safetensors";
import { safetensorsContent, writeSafetensors } from "../../src/io/safetensors-write";
import { openDirectory } from "../../src/node/directory";
import { failure } from "../support/failure";

const DATA = fileURLToPath(new URL("../interop-data/", import.meta.url));

/** A directory with a file of this header (JSON text or its value) and data. Its header length is `statedLength` if given. */
function file(header: unknown, data: ArrayLike<number> = [], statedLength?: bigint): Directory {
  const json = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const bytes = new Uint8Array(8 + json.length + data.length);
  new DataView(bytes.buffer).setBigUint64(0, statedLength ?? BigInt(json.length), true);
  bytes.set(json, 8);
  bytes.set(data, 8 + json.length);
  return memoryDirectory("memory", { "x.safetensors": bytes });
}

/** A directory with a file whose only tensor is x. */
function oneTensor(dtype: string, shape: number[], bytes: Uint8Array): Directory {
  return file({ x: { dtype, shape, data_offsets: [0, bytes.length] } }, bytes);
}

/** The elements of x. */
async function dataOf(directory: Directory): Promise<number[]> {
  const tensors = await readSafetensors(directory, "x.safetensors");
  return [...tensors.get("x")!.data];
}

describe("reading", () => {
  test("gives the type, shape and byte range of a tensor", async () => {
    const header = await readHeader(oneTensor("F32", [2, 1], new Uint8Array(8)), "x.safetensors");
    const start = 8 + JSON.stringify({ x: { dtype: "F32", shape: [2, 1], data_offsets: [0, 8] } }).length;
    expect([...header]).toEqual([["x", { dtype: "F32", shape: [2, 1], start, end: start + 8 }]]);
  });

  test.each([
    ["F32", Uint8Array.from(new Uint8Array(Float32Array.of(1.5, -0, Infinity).buffer)), [1.5, -0, Infinity]],
    ["F16", new Uint8Array(encodeF16(Float32Array.of(1.5, 65504, 2 ** -24)).buffer), [1.5, 65504, 2 ** -24]],
    ["BF16", new Uint8Array(encodeBf16(Float32Array.of(1.5, -3, 2 ** 100)).buffer), [1.5, -3, 2 ** 100]],
    ["F64", new Uint8Array(Float64Array.of(0.1, 1e300, 2).buffer), [Math.fround(0.1), Infinity, 2]],
    ["I32", new Uint8Array(Int32Array.of(1, -2, 2 ** 31 - 1).buffer), [1, -2, 2 ** 31 - 1]],
    ["I64", new Uint8Array(BigInt64Array.of(1n, -100n, -(2n ** 31n)).buffer), [1, -100, -(2 ** 31)]],
    ["U8", Uint8Array.of(0, 1, 255), [0, 1, 255]],
    ["BOOL", Uint8Array.of(0, 1, 7), [0, 1, 1]],
  ])("converts %s", async (dtype, bytes, expected) => {
    expect(await dataOf(oneTensor(dtype, [3], bytes))).toEqual(expected);
  });

  test("accepts scalars, tensors without elements, and a file without tensors", async () => {
    expect(await dataOf(oneTensor("F32", [], new Uint8Array(4)))).toEqual([0]);
    expect(await dataOf(oneTensor("F32", [3, 0, 2], new Uint8Array(0)))).toEqual([]);
    expect((await readHeader(file("{}"), "x.safetensors")).size).toBe(0);
  });

  test("treats names of Object's properties as any other name", async () => {
    const json =
      '{"__proto__":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"constructor":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}';
    const tensors = await readSafetensors(file(json, [3, 4]), "x.safetensors");
    expect([...tensors].map(([name, { data }]) => [name, data[0]])).toEqual([
      ["__proto__", 3],
      ["constructor", 4],
    ]);
    // Asks for a key that a polluted prototype would have.
    expect(({} as Record<string, unknown>)["dtype"], "a prototype was polluted").toBeUndefined();
  });

  test("refuses a tensor of an unsupported type when it is read, not when the file is opened", async () => {
    const directory = oneTensor("F8_E4M3", [2], Uint8Array.of(1, 2));
    const entry = (await readHeader(directory, "x.safetensors")).get("x")!;
    const error = await failure(readTensor(directory, "x.safetensors", "x", entry), DtypeError);
    expect(error.message).toMatch(/"x" in x.safetensors.*F8_E4M3/);
  });

  test("refuses integers in place of floats, and names an I64 element of more than 32 bits", async () => {
    const integers = oneTensor("I64", [2], new Uint8Array(BigInt64Array.of(5n, 2n ** 31n).buffer));
    await expect(readSafetensors(integers, "x.safetensors")).rejects.toThrow(/2147483648 as its element 1/);
    const small = oneTensor("I64", [1], new Uint8Array(8));
    const entry = (await readHeader(small, "x.safetensors")).get("x")!;
    await expect(readFloats(small, "x.safetensors", "x", entry)).rejects.toThrow(/I64, but must contain floats/);
  });

  test("reads one tensor without the others", async () => {
    const ranges: number[][] = [];
    const content = safetensorsContent([
      { name: "a", shape: [1000], data: new Float32Array(1000) },
      { name: "b", shape: [3], data: Float32Array.of(1, 2, 3) },
    ]);
    const inner = memoryDirectory("memory", { "x.safetensors": await contentBytes(content) });
    const recording: Directory = {
      ...inner,
      read: (name, start = 0, end) => {
        ranges.push([start, end ?? -1]);
        return inner.read(name, start, end);
      },
    };
    const entry = (await readHeader(recording, "x.safetensors")).get("b")!;
    expect([...(await readTensor(recording, "x.safetensors", "b", entry))]).toEqual([1, 2, 3]);
    expect(ranges.map(([start, end]) => end! - start!)).toEqual([8, entry.start - 4000 - 8, 12]);
  });
});

describe("hostile files", () => {
  const entry = (dtype: unknown, shape: unknown, data_offsets: unknown): unknown => ({
    x: { dtype, shape, data_offsets },
  });
  const f32 = { dtype: "F32", shape: [1] };

  test.each<[string, Directory, RegExp]>([
    ["no bytes", memoryDirectory("memory", { "x.safetensors": new Uint8Array(0) }), /0 bytes, too few/],
    ["seven bytes", memoryDirectory("memory", { "x.safetensors": new Uint8Array(7) }), /7 bytes, too few/],
    ["a header longer than the file", file("{}", [], 3n), /states a header of 3 bytes, but at most 2/],
    ["a header of 2^64 - 1 bytes", file("{}", [], 2n ** 64n - 1n), /18446744073709551615 bytes/],
    ["a header that is not JSON", file("{nonsense"), /not valid JSON/],
    ["a header that is an array", file("[]"), /does not begin with/],
    ["a truncated header", file('{"x":'), /not valid JSON/],
    ["a header that is empty", file("", [1], 0n), /does not begin with/],
    ["bytes that are not UTF-8", file("{}  ", [], 4n), /^$/],
    ["an entry that is a number", file({ x: 1 }), /"x" in x.safetensors/],
    ["an entry without a type", file({ x: { shape: [1], data_offsets: [0, 4] } }, new Uint8Array(4)), /dtype/],
    ["an unknown type", file(entry("F33", [1], [0, 4]), new Uint8Array(4)), /unknown element type "F33"/],
    [
      "a type named like a property of Object",
      file(entry("toString", [1], [0, 4]), new Uint8Array(4)),
      /unknown element/,
    ],
    ["a negative dimension", file(entry("F32", [-1], [0, 4]), new Uint8Array(4)), /shape.0/],
    ["two negative dimensions", file(entry("F32", [-1, -1], [0, 4]), new Uint8Array(4)), /shape.0/],
    ["a dimension of 0.5", file(entry("F32", [0.5, 2], [0, 4]), new Uint8Array(4)), /shape.0/],
    ["a dimension in quotes", file(entry("F32", ["1"], [0, 4]), new Uint8Array(4)), /shape.0/],
    [
      "2^60 rows",
      file(`{"x":{"dtype":"F32","shape":[1152921504606846976],"data_offsets":[0,4]}}`, new Uint8Array(4)),
      /shape.0/,
    ],
    [
      "a product beyond 2^53",
      file(entry("F32", [2 ** 30, 2 ** 30], [0, 4]), new Uint8Array(4)),
      /more than 2\^53 bytes/,
    ],
    ["a product beyond 2^64", file(entry("F32", [2 ** 32, 2 ** 32, 1], [0, 4]), new Uint8Array(4)), /2\^53/],
    [
      "a shape that does not fit its range",
      file(entry("F32", [2], [0, 4]), new Uint8Array(4)),
      /8 bytes, but its range has 4/,
    ],
    ["a range that ends before it starts", file(entry("F32", [1], [4, 0]), new Uint8Array(4)), /range has -4/],
    ["a negative offset", file(entry("F32", [1], [-4, 0]), new Uint8Array(4)), /data_offsets/],
    ["three offsets", file(entry("F32", [1], [0, 4, 8]), new Uint8Array(4)), /data_offsets/],
    ["a range beyond the file", file(entry("F32", [1], [0, 4]), new Uint8Array(3)), /describes/],
    ["bytes after the last tensor", file(entry("F32", [1], [0, 4]), new Uint8Array(5)), /describes/],
    ["a gap at the beginning", file(entry("F32", [1], [4, 8]), new Uint8Array(8)), /leaves a gap/],
    [
      "a gap in the middle",
      file({ x: { ...f32, data_offsets: [0, 4] }, y: { ...f32, data_offsets: [8, 12] } }, new Uint8Array(12)),
      /"y".*leaves a gap/,
    ],
    [
      "overlapping tensors",
      file(
        { x: { dtype: "F32", shape: [2], data_offsets: [0, 8] }, y: { ...f32, data_offsets: [4, 8] } },
        new Uint8Array(8),
      ),
      /"y".*overlaps/,
    ],
    [
      "two tensors with one range",
      file({ x: { ...f32, data_offsets: [0, 4] }, y: { ...f32, data_offsets: [0, 4] } }, new Uint8Array(4)),
      /overlaps/,
    ],
    ["metadata with a number", file({ __metadata__: { step: 1 } }), /__metadata__.*step/],
    ["metadata that is not an object", file({ __metadata__: "x" }), /__metadata__/],
  ])("are refused: %s", async (name, directory, message) => {
    if (name === "bytes that are not UTF-8") {
      const bytes = await directory.read("x.safetensors");
      bytes[9] = 0xff;
      directory = memoryDirectory("memory", { "x.safetensors": bytes });
      message = /not valid UTF-8/;
    }
    const error = await failure(readHeader(directory, "x.safetensors"), FileFormatError);
    expect(error.message).toMatch(message);
  });

  test("are refused for a header of more than 100 MB before it is read, even if the file is larger", async () => {
    const sparse: Directory = {
      ...file("{}", [], 100_000_001n),
      size: () => Promise.resolve(2 ** 40),
      read: (_, start = 0, end = 0) => {
        expect(end - start, "bytes read").toBeLessThanOrEqual(8);
        const prefix = new Uint8Array(8);
        new DataView(prefix.buffer).setBigUint64(0, 100_000_001n, true);
        return Promise.resolve(prefix);
      },
    };
    await expect(readHeader(sparse, "x.safetensors")).rejects.toThrow(/100000001 bytes, but at most 100000000/);
  });

  test("may be missing: the error names the file and those that exist", async () => {
    const directory = memoryDirectory("here", { "other.safetensors": new Uint8Array(1) });
    await expect(readHeader(directory, "x.safetensors")).rejects.toThrow(/no file x.safetensors in here.\n.*other/);
  });

  test("may be nested deeply: they are refused without a stack overflow", async () => {
    const deep = "[".repeat(200_000) + "]".repeat(200_000);
    await expect(readHeader(file(`{"x":${deep}}`), "x.safetensors")).rejects.toThrow(FileFormatError);
  });
});

describe("writing", () => {
  const tensors = [
    { name: "b", shape: [2, 2], data: Float32Array.of(1, 2, 3, NaN) },
    { name: "a", shape: [], data: Int32Array.of(-7) },
    { name: "__proto__", shape: [0], data: new Float32Array(0) },
  ];

  test("gives files that read back, sorted by name or in the given order", async () => {
    const directory = memoryDirectory("memory");
    await writeSafetensors(directory, "s.safetensors", tensors);
    await writeSafetensors(directory, "g.safetensors", tensors, { order: "given", metadata: {} });
    const sorted = await readSafetensors(directory, "s.safetensors");
    expect([...sorted.keys()]).toEqual(["__proto__", "a", "b"]);
    expect(sorted.get("b")).toEqual({ shape: [2, 2], data: tensors[0]!.data });
    expect(sorted.get("a")).toEqual({ shape: [], data: tensors[1]!.data });
    expect([...(await readSafetensors(directory, "g.safetensors")).keys()]).toEqual(["b", "a", "__proto__"]);
  });

  test("pads the header with spaces to a multiple of 8 bytes, and states the format pt in the metadata", async () => {
    const directory = memoryDirectory("memory");
    await writeSafetensors(directory, "x.safetensors", tensors);
    const bytes = await directory.read("x.safetensors");
    const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
    expect(length % 8).toBe(0);
    expect(new TextDecoder().decode(bytes.subarray(8, 8 + length))).toMatch(
      /^\{"__metadata__":\{"format":"pt"\},.*\} *$/,
    );
    const { metadata } = await readSafetensorsHeader(directory, "x.safetensors");
    expect([...metadata]).toEqual([["format", "pt"]]);
  });

  test("calls functions that return data one at a time", async () => {
    const calls: string[] = [];
    const lazy = (name: string) => ({
      name,
      shape: [2],
      data: () => Promise.resolve(Float32Array.of(calls.push(name), 0)),
    });
    const directory = memoryDirectory("memory");
    await writeSafetensors(directory, "x.safetensors", [lazy("b"), lazy("a")]);
    expect(calls).toEqual(["a", "b"]);
    expect([...(await readSafetensors(directory, "x.safetensors")).get("b")!.data]).toEqual([2, 0]);
  });

  test("writes only the elements of a view into a larger buffer", async () => {
    const directory = memoryDirectory("memory");
    const view = Float32Array.of(1, 2, 3, 4).subarray(1, 3);
    await writeSafetensors(directory, "x.safetensors", [{ name: "x", shape: [2], data: view }]);
    expect(await dataOf(directory)).toEqual([2, 3]);
  });

  test.each([
    ["a repeated name", [tensors[0]!, tensors[0]!], FileFormatError],
    ["the reserved name", [{ ...tensors[0]!, name: "__metadata__" }], FileFormatError],
    ["data of another size", [{ ...tensors[0]!, shape: [5] }], ShapeError],
    ["a size that is not an integer", [{ ...tensors[0]!, shape: [0.5, 8] }], ShapeError],
  ])("refuses %s", (_, list, error) => {
    expect(() => safetensorsContent(list)).toThrow(error);
  });

  test("leaves the file unchanged if a function returns data of another size or type", async () => {
    const directory = memoryDirectory("memory", { "x.safetensors": Uint8Array.of(1) });
    for (const data of [new Float32Array(3), new Int32Array(2)]) {
      const write = writeSafetensors(directory, "x.safetensors", [{ name: "x", shape: [2], data: () => data }]);
      await expect(write).rejects.toThrow(ShapeError);
    }
    expect(await directory.size("x.safetensors")).toBe(1);
  });
});

describe("files that Python wrote", () => {
  const files = readdirSync(DATA, { recursive: true, encoding: "utf8" }).filter((name) =>
    name.endsWith(".safetensors"),
  );

  test.each(files)("%s is read, and written again with the same tensors and order", async (path) => {
    const directory = await openDirectory(join(DATA, path, ".."));
    const name = path.slice(path.replaceAll("\\", "/").lastIndexOf("/") + 1);
    const tensors = await readSafetensors(directory, name);
    expect(tensors.size).toBeGreaterThan(0);
    const list = [...tensors].map(([key, { shape, data }]) => ({ name: key, shape, data }));
    const { metadata } = await readSafetensorsHeader(directory, name);
    const copy = await contentBytes(
      safetensorsContent(list, { order: "given", metadata: Object.fromEntries(metadata) }),
    );
    expect(await readSafetensors(memoryDirectory("memory", { copy }), "copy")).toEqual(tensors);
    if (name !== "model.safetensors" && name !== "adapter_model.safetensors") return;
    const bytes = await directory.read(name);
    expect(Buffer.compare(copy, bytes), "difference from the bytes that transformers or PEFT wrote").toBe(0);
  });
});
