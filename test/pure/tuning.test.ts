import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { DeviceError, fileTuningCache, memoryTuningCache, tuningPath } from "safetape/engine";
import type { AdapterInfo, TuningCache, TuningOptions } from "safetape";
import { candidates, fastest, nameOf, shapeClass } from "../../src/gpu/tuning/candidates";
import { checkRecord, tuningKey } from "../../src/gpu/tuning/cache";
import type { BoundLaunch } from "../../src/gpu/tuning/scratch";
import { Tuner } from "../../src/gpu/tuning/tuner";
import { DOCTOR } from "../../src/cli/flags";
import { readOptions } from "../../src/cli/options";
import { timesText } from "../../src/cli/doctor/tune";
import type { Device } from "../../src/gpu/device";
import type { Launch } from "../../src/op/launch";
import { DEFAULT_LIMITS } from "../../src/op/limits";
import { productLaunches } from "../../src/ops/shared/product";

const HARDWARE: AdapterInfo = {
  vendor: "v",
  architecture: "a",
  device: "d",
  description: "driver 1",
  isSoftware: false,
  subgroup: 32,
};

/** The launch of a product of m x k and k x n matrices. */
function product(m: number, n: number, k: number, transposed = false): Launch {
  const request = { m, n, k, a: { slot: "x" }, b: { slot: "w", transposed }, c: "y", accumulate: false };
  return productLaunches(request, DEFAULT_LIMITS)[0]!;
}

/** A launch with one binding, of which a tuner reads only the bytes. */
const bound = (launch: Launch, bytes = 4): BoundLaunch => ({ launch, bindings: [{ variable: "a", bytes }] });

describe("a shape class", () => {
  it("names kernel, entry, rounded sizes and layout", () => {
    expect(shapeClass(product(500, 768, 1000, true))).toBe("product.plain m~512 n~1024 k~1024 f32 b^T");
    expect(shapeClass(product(512, 1024, 768, true))).toBe(shapeClass(product(500, 768, 1000, true)));
    expect(shapeClass(product(512, 1024, 768))).not.toBe(shapeClass(product(512, 1024, 768, true)));
    expect(shapeClass(product(512, 512, 768))).not.toBe(shapeClass(product(512, 1024, 768)));
  });

  it("is undefined for a launch without variants", () => {
    const { shape: _shape, ...rest } = product(8, 8, 8);
    expect(shapeClass(rest)).toBeUndefined();
  });
});

describe("candidates", () => {
  const launch = product(512, 512, 512);

  it("are the variants that the adapter supports, each once, the usual one first", () => {
    const names = candidates(launch, undefined, { adapter: HARDWARE, rounding: false }).map(nameOf);
    expect(names[0]).toBe("portable");
    expect(new Set(names).size).toBe(names.length);
    expect(names.filter((name) => name.startsWith("subgroups"))).toEqual(["subgroups of 32, 32 x 4"]);
    expect(names).toContain("workgroup memory, 128 x 128");
    const { subgroup: _, ...varying } = HARDWARE;
    expect(candidates(launch, undefined, { adapter: varying, rounding: false }).some((one) => one?.subgroup)).toBe(
      false,
    );
  });

  it("give the bits of the usual one unless rounding is allowed", () => {
    const [first, second, ...rest] = launch.variants ?? [];
    const rounding = { ...launch, variants: [{ ...first!, rounds: true }, second!, ...rest] };
    const usual = rounding.variants[0]!;
    const names = (first: typeof usual | undefined, isAllowed: boolean) =>
      candidates(rounding, first, { adapter: { ...HARDWARE, subgroup: usual.subgroup }, rounding: isAllowed }).map(
        nameOf,
      );
    expect(names(undefined, false)).not.toContain(usual.name);
    expect(names(usual, false)).toEqual([usual.name]);
    expect(names(undefined, true)).toContain(usual.name);
  });
});

it("another candidate replaces the usual one only if it is faster by more than noise", () => {
  const times = (usual: number, other: number) => fastest(new Map(Object.entries({ usual, other })), "usual");
  expect(times(1, 0.5)).toBe("other");
  expect(times(1, 0.99)).toBe("usual");
  expect(times(Infinity, 3)).toBe("other");
  expect(fastest(new Map([["usual", Infinity]]), "usual")).toBe("usual");
});

function tunerDevice(): Device {
  const unchanged = <T>(work: Promise<T>): Promise<T> => work;
  // The tuner uses these members alone.
  return {
    info: HARDWARE,
    guard: unchanged,
    wait: unchanged,
    pool: { flush: () => Promise.resolve() },
  } as unknown as Device;
}

/** What the tuner's adapter runs untuned where sides are 128 to 512, and another variant. */
const [USUAL, FASTER] = ["workgroup memory, 64 x 64", "workgroup memory, 128 x 128"];

/** A tuner whose timing always finds `winner` fastest, and the lists of candidates that it timed. */
function tunerWithWinner(options: TuningOptions, { winner = FASTER, milliseconds = 1 } = {}) {
  const timed: string[][] = [];
  const tuner = new Tuner(tunerDevice(), options, async (_device, _bound, variants, { until }) => {
    const names = variants.map(nameOf);
    timed.push(names);
    await new Promise((resolve) => setTimeout(resolve, milliseconds));
    const finished = performance.now() > until ? names.slice(0, 2) : names;
    return new Map(finished.map((name) => [name, name === winner ? 1 : 2]));
  });
  return { tuner, timed };
}

describe("a tuner", () => {
  const [large, small] = [product(512, 512, 512), product(128, 128, 128)];

  it("times each class once, the most expensive first, and chooses the fastest variant", async () => {
    const { tuner, timed } = tunerWithWinner({});
    await tuner.prepare([bound(small), bound(large), bound(product(500, 500, 500))], 1e9);
    expect(tuner.choices.map(({ shape }) => shape)).toEqual([shapeClass(large), shapeClass(small)]);
    expect(tuner.choices.map(({ how }) => how)).toEqual(["timed", "timed"]);
    await tuner.prepare([bound(large)], 1e9);
    expect(timed).toHaveLength(2);
    expect(nameOf(tuner.choose(large))).toBe(FASTER);
    expect(nameOf(tuner.choose(product(256, 256, 256))), "a class that was not prepared").toBe(USUAL);
  });

  it("stops when its time is up, and continues in the next engine", async () => {
    const cache = memoryTuningCache();
    const first = tunerWithWinner({ seconds: 0.005, cache }, { milliseconds: 20 });
    await first.tuner.prepare([bound(large), bound(small)], 1e9);
    expect(first.tuner.choices.map(({ how, chosen }) => [how, chosen])).toEqual([
      ["timed", USUAL],
      ["usual", USUAL],
    ]);
    const second = tunerWithWinner({ cache });
    await second.tuner.prepare([bound(large), bound(small)], 1e9);
    expect(second.timed[0], "the usual candidate and those not timed before").toEqual(
      first.timed[0]?.filter((name, i) => i !== 1),
    );
    expect(nameOf(second.tuner.choose(large))).toBe(FASTER);
  });

  it("takes a complete choice from the cache without timing", async () => {
    const cache = memoryTuningCache();
    await tunerWithWinner({ cache }).tuner.prepare([bound(large)], 1e9);
    const { tuner, timed } = tunerWithWinner({ cache }, { winner: "tiles of 4 x 4" });
    await tuner.prepare([bound(large)], 1e9);
    expect(timed).toEqual([]);
    expect(tuner.choices).toMatchObject([{ chosen: FASTER, how: "cached" }]);
  });

  it("chooses the usual variant if timing fails for lack of memory", async () => {
    const failing = new Tuner(tunerDevice(), {}, () => Promise.reject(new DeviceError("no memory", "use less")));
    await failing.prepare([bound(large)], 1e9);
    expect(failing.choices).toMatchObject([{ chosen: USUAL, how: "usual" }]);
  });

  it("times nothing that needs more memory than it may use", async () => {
    const { tuner, timed } = tunerWithWinner({});
    await tuner.prepare([bound(large, 4096)], 4096);
    expect(timed).toEqual([]);
    expect(tuner.choices).toMatchObject([{ chosen: USUAL, how: "usual" }]);
  });

  it.each<[string, TuningCache]>([
    ["returns something else", { ...memoryTuningCache(), load: () => Promise.resolve({ class: { chosen: 3 } }) }],
    ["cannot be read", { ...memoryTuningCache(), load: () => Promise.reject(new Error("no disk")) }],
    ["cannot be written", { ...memoryTuningCache(), save: () => Promise.reject(new Error("no disk")) }],
  ])("warns once and tunes again if the cache %s", async (_what, cache) => {
    const warnings: string[] = [];
    const { tuner } = tunerWithWinner({ cache, onWarning: (text) => void warnings.push(text) });
    await tuner.prepare([bound(large)], 1e9);
    await tuner.prepare([bound(large)], 1e9);
    expect(tuner.choices[0]?.how).toBe("timed");
    expect(warnings).toEqual([expect.stringMatching(/cache of tuned kernels/)]);
  });
});

describe("a file of tuned kernels", () => {
  const record = { "product.plain": { chosen: "portable", tried: ["portable"] } };
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "safetape-tuning-"));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  it("returns what was saved under a key", async () => {
    const path = join(folder, "deep", "tuning.json");
    await fileTuningCache(path).save("one", record);
    await fileTuningCache(path).save("two", {});
    expect(checkRecord(await fileTuningCache(path).load("one"))).toEqual(record);
    expect(checkRecord(await fileTuningCache(path).load("two"))).toEqual({});
    expect(checkRecord(await fileTuningCache(path).load("three"))).toEqual({});
    expect(checkRecord(await fileTuningCache(join(folder, "none.json")).load("one"))).toEqual({});
  });

  it("is refused if damaged, and created again by the next save", async () => {
    const path = join(folder, "tuning.json");
    for (const text of ["{", "[]", '{"records": 3}', ""]) {
      writeFileSync(path, text);
      await expect(fileTuningCache(path).load("one"), text).rejects.toThrow(/not a file of tuned kernels\nremove it/);
    }
    await fileTuningCache(path).save("one", record);
    expect(JSON.parse(readFileSync(path, "utf8"))).toEqual({ records: { one: record } });
  });

  it("is in the system's folder for caches", () => {
    expect(tuningPath({ XDG_CACHE_HOME: folder })).toBe(join(folder, "safetape", "tuning.json"));
  });
});

it("a key changes with the adapter, its driver and the version", () => {
  const keys = [
    tuningKey(HARDWARE),
    tuningKey({ ...HARDWARE, description: "driver 2" }),
    tuningKey({ ...HARDWARE, device: "e" }),
    tuningKey(HARDWARE, "9.9.9"),
  ];
  expect(new Set(keys).size).toBe(keys.length);
  // package.json has a version.
  expect(keys[0]).toContain((JSON.parse(readFileSync("package.json", "utf8")) as { version: string }).version);
});

it("the table of doctor --tune marks the chosen variant, those that round and those that the driver refuses", () => {
  const text = timesText({
    shape: "product.plain m~512",
    example: "512 x 512 x 512, forward",
    chosen: "workgroup memory, 64 x 64",
    variants: [
      { name: "portable", seconds: 0.002, gflops: 134.2, rounds: false },
      { name: "workgroup memory, 64 x 64", seconds: 0.0005, gflops: 536.9, rounds: false },
      { name: "subgroups of 32, 32 x 32", seconds: 0.0004, gflops: 671.1, rounds: true },
      { name: "tiles of 4 x 4", seconds: undefined, gflops: undefined, rounds: false },
    ],
  });
  expect(text.split("\n")).toEqual([
    "product.plain m~512   (512 x 512 x 512, forward)",
    expect.stringMatching(/^ {4}portable +2\.000 ms +134\.2 GFLOP\/s$/),
    expect.stringMatching(/^ {2}\* workgroup memory, 64 x 64 +0\.500 ms +536\.9 GFLOP\/s$/),
    expect.stringMatching(/^ {2}~ subgroups of 32, 32 x 32 +0\.400 ms/),
    expect.stringMatching(/^ {4}tiles of 4 x 4 +refused by the driver$/),
  ]);
});

it("doctor --tune has no time limit unless one is given", () => {
  expect(readOptions(DOCTOR, {}).seconds).toBeUndefined();
  expect(readOptions(DOCTOR, { seconds: "1.5" }).seconds).toBe(1.5);
  expect(() => readOptions(DOCTOR, { seconds: "soon" })).toThrow(/--seconds is "soon"/);
});
