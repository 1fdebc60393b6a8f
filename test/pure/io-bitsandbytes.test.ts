import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { ConfigError, FileFormatError } from "../../src/base/errors";
import { Random } from "../../src/base/random";
import { dequantised, unquantised } from "../../src/io/bitsandbytes";
import { openCheckpoint } from "../../src/io/checkpoint";
import type { Checkpoint } from "../../src/io/checkpoint";
import { memoryDirectory } from "../../src/io/directory";
import { jsonBytes } from "../../src/io/json";
import { readSafetensors } from "../../src/io/safetensors";
import { openDirectory } from "../../src/node/directory";
import { failure } from "../support/failure";
import { rawSafetensors, readRaw } from "../support/checkpoints";
import type { RawTensor } from "../support/checkpoints";

const DATA = fileURLToPath(new URL("../interop/quantised/", import.meta.url));
const FIXTURES = ["bert-nf4", "bert-int8", "llama-nf4-double", "gpt2-nf4-double", "gpt2-int8"];

/** GPT-2's projections, which are transposed in such files. */
const transposedIn = (fixture: string, checkpoint: Checkpoint): Set<string> =>
  new Set(fixture.startsWith("gpt2") ? checkpoint.names() : []);

describe.each(FIXTURES)("%s", (fixture) => {
  it("is read with the bits that torch gives, as a whole and in parts", async () => {
    const directory = await openDirectory(join(DATA, fixture));
    const files = await openCheckpoint(directory);
    const checkpoint = await dequantised(files, transposedIn(fixture, files));
    const random = new Random(3);
    const expected = [...(await readSafetensors(directory, "expected.safetensors"))];
    const weights = expected.filter(([name]) => name.endsWith(".weight"));
    expect(weights).toHaveLength(2);
    for (const [name, { shape, data }] of weights) {
      expect(checkpoint.info(name).shape, name).toEqual(shape);
      expect(await checkpoint.read(name), name).toEqual(data);
      for (let i = 0; i < 20; i++) {
        const [first = 0, end = 0] = [random.below(data.length), random.below(data.length + 1)].sort((a, b) => a - b);
        const part = await checkpoint.read(name, { first, end });
        expect(part, `${name} ${first} to ${end}`).toEqual(data.subarray(first, end));
      }
    }
  });

  it("has the names of a checkpoint that is not quantised", async () => {
    const files = await openCheckpoint(await openDirectory(join(DATA, fixture)));
    const checkpoint = await dequantised(files, new Set());
    expect(checkpoint.names().filter((name) => !/\.(?:weight|bias)$/.test(name))).toEqual([]);
    expect(files.names().length).toBeGreaterThan(checkpoint.names().length);
    const hidden = files.names().filter((name) => !checkpoint.names().includes(name));
    expect(hidden.every((name) => !checkpoint.has(name))).toBe(true);
  });
});

type Change = (tensors: Map<string, RawTensor>, name: string) => void;

/** Opens and reads a fixture's first quantised weight after a change. */
async function damaged(fixture: string, change: Change): Promise<void> {
  const tensors = await readRaw(await openDirectory(join(DATA, fixture)), "model.safetensors");
  const [name = ""] = [...tensors].find(([, { dtype }]) => dtype === "U8" || dtype === "I8") ?? [];
  const weight = name.replace(/\.weight\..*|\.weight_format$|\.SCB$/, "").replace(/\.weight$/, "") + ".weight";
  change(tensors, weight);
  const files = { "config.json": jsonBytes({}), "model.safetensors": rawSafetensors(tensors) };
  const checkpoint = await openCheckpoint(memoryDirectory("damaged", files));
  await (await dequantised(checkpoint, new Set())).read(weight);
}

/** The tensor without its last elements, or more than it had. */
function resized({ dtype, bytes, shape }: RawTensor, count: number): RawTensor {
  const each = bytes.length / shape.reduce((a, b) => a * b, 1);
  const longer = new Uint8Array(count * each);
  longer.set(bytes.subarray(0, longer.length));
  return { dtype, shape: [count], bytes: longer };
}

const without =
  (ending: string): Change =>
  (tensors, name) => {
    expect(tensors.delete(name + ending), `${name}${ending} was there`).toBe(true);
  };

const size =
  (ending: string, count: number): Change =>
  (tensors, name) => {
    const tensor = tensors.get(name + ending);
    if (tensor) tensors.set(name + ending, resized(tensor, count));
  };

const state =
  (change: (quantState: Record<string, unknown>) => void): Change =>
  (tensors, name) => {
    const key = `${name}.quant_state.bitsandbytes__nf4`;
    // The fixture's own JSON is an object.
    const quantState = JSON.parse(new TextDecoder().decode(tensors.get(key)?.bytes)) as Record<string, unknown>;
    change(quantState);
    const bytes = jsonBytes(quantState);
    tensors.set(key, { dtype: "U8", shape: [bytes.length], bytes });
  };

const eight =
  (change: (tensors: Map<string, RawTensor>, module: string) => void): Change =>
  (tensors, name) =>
    change(tensors, name.replace(/\.weight$/, ""));

describe("a quantised file is refused for", () => {
  it.each<[string, string, Change, RegExp]>([
    [
      "no quant_state",
      "bert-nf4",
      without(".quant_state.bitsandbytes__nf4"),
      /quant_state.bitsandbytes__nf4 is missing/,
    ],
    ["no scales", "bert-nf4", without(".absmax"), /no tensor ".*\.weight\.absmax"/],
    ["no code map", "bert-nf4", without(".quant_map"), /no tensor ".*quant_map"/],
    ["no weight", "bert-nf4", without(""), /no tensor ".*\.weight"/],
    ["too few codes", "bert-nf4", size("", 100), /has 100 bytes for 400 codes; .* requires 200/],
    ["a scale too few", "bert-nf4", size(".absmax", 6), /has 6 scales of blocks of 64; .* requires 7/],
    [
      "another block size",
      "bert-nf4",
      state((quantState) => (quantState["blocksize"] = 128)),
      /has 7 scales .* requires 4/,
    ],
    ["a block size of 0", "bert-nf4", state((quantState) => (quantState["blocksize"] = 0)), /blocksize/],
    [
      "another shape",
      "bert-nf4",
      state((quantState) => (quantState["shape"] = [20, 21])),
      /has 200 bytes for 420 codes/,
    ],
    [
      "a shape of 2^100 elements",
      "bert-nf4",
      state((quantState) => (quantState["shape"] = [2 ** 50, 2 ** 50])),
      /requires/,
    ],
    ["a map of 15 values", "bert-nf4", size(".quant_map", 15), /has 15 values; .* requires 16/],
    ["no nested scales", "llama-nf4-double", without(".nested_absmax"), /no tensor ".*nested_absmax"/],
    ["no nested map", "llama-nf4-double", without(".nested_quant_map"), /no tensor ".*nested_quant_map"/],
    ["a nested map of 255", "llama-nf4-double", size(".nested_quant_map", 255), /has 255 values; .* requires 256/],
    [
      "nested scales too few",
      "llama-nf4-double",
      size(".nested_absmax", 1),
      /has 1 scales of blocks of 256; .* requires 2/,
    ],
    [
      "no offset",
      "llama-nf4-double",
      state((quantState) => delete quantState["nested_offset"]),
      /lacks nested_blocksize or/,
    ],
    ["no SCB", "bert-int8", eight((tensors, at) => tensors.delete(`${at}.SCB`)), /, but .*\.SCB is missing/],
    ["an SCB too short", "bert-int8", eight((tensors, at) => size(".SCB", 3)(tensors, at)), /has 3 scales of rows/],
    [
      "tiles for a kind of GPU",
      "bert-int8",
      eight((tensors, at) => tensors.set(`${at}.weight_format`, { dtype: "U8", shape: [], bytes: Uint8Array.of(2) })),
      /is stored in tiles/,
    ],
    [
      "FP4",
      "bert-nf4",
      (tensors, name) => {
        const key = `${name}.quant_state.bitsandbytes__`;
        tensors.set(`${key}fp4`, tensors.get(`${key}nf4`)!);
        tensors.delete(`${key}nf4`);
      },
      /4-bit format fp4.*\n.*bnb_4bit_quant_type="nf4"/,
    ],
  ])("%s (%s)", async (_, fixture, change, message) => {
    await expect(damaged(fixture, () => undefined)).resolves.toBeUndefined();
    expect((await failure(damaged(fixture, change), FileFormatError)).message).toMatch(message);
  });
});

describe("quantization_config", () => {
  it("is removed where bitsandbytes wrote it", () => {
    const rest = { model_type: "bert" };
    expect(unquantised({ ...rest, quantization_config: { quant_method: "bitsandbytes" } })).toEqual(rest);
    expect(unquantised({ ...rest, quantization_config: { load_in_8bit: true } })).toEqual(rest);
    expect(unquantised({ ...rest, quantization_config: null })).toMatchObject(rest);
  });

  it.each(["gptq", "awq", "fp8"])("of %s is refused by its name", (quant_method) => {
    const read = (): unknown => unquantised({ quantization_config: { quant_method, bits: 4 } });
    expect(read).toThrow(ConfigError);
    expect(read).toThrow(new RegExp(`quantised by "${quant_method}".*\n.*the original model`));
  });

  it("without a method is refused", () => {
    expect(() => unquantised({ quantization_config: {} })).toThrow(/an unknown method/);
    expect(() => unquantised({ quantization_config: "gptq" })).toThrow(ConfigError);
  });
});
