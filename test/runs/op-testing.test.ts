import { writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { ConfigError } from "safetape/engine";
import { readBenchResult } from "../../src/cli/bench/result";
import type { BenchResult } from "../../src/testing/bench-result";
import type { Op } from "../../src/op/declaration";
import { ops } from "../../src/ops/index";
import { benchOp, casesToTime } from "../../src/testing/bench-op";
import { checkOp } from "../../src/testing/check-op";
import { quickCeiling } from "../../src/testing/ceiling";
import { runCli } from "../support/cli";
import { useEngine } from "../support/engine";
import { doubleOp, doubleVariant } from "../support/faulty-op";
import { useFolder } from "../support/folder";
import { parseJson } from "../support/json";
import { right, untested, wrongGradient, wrongInPlace, wrongRanges, wrongReference } from "../support/wrong-ops";

const engine = await useEngine();
const path = useFolder();

/** What is wrong, each as "what result in case". */
const found = async (op: Op): Promise<string[]> =>
  (await checkOp(engine, op)).map(({ what, result, case: name }) => `${what} ${result} in ${name}`);

describe("checkOp", () => {
  it("finds nothing wrong with a right op", async () => {
    expect(await checkOp(engine, right)).toEqual([]);
  });

  it("has the references and cases of this library's ops, which their declarations lack", async () => {
    expect(ops.relu).not.toHaveProperty("reference");
    expect(await checkOp(engine, ops.relu)).toEqual([]);
    expect(await found({ ...ops.relu, reference: ({ x }) => ({ y: x! }) })).toContain("output y in odd size");
    expect(casesToTime(ops.relu).map(({ bench }) => bench)).toEqual([true]);
  });

  it("names a wrong gradient with its error", async () => {
    const problems = await checkOp(engine, wrongGradient);
    expect(problems.map(({ what, result }) => [what, result])).toEqual([
      ["gradient", "dx"],
      ["gradient", "dx"],
    ]);
    expect(problems[0]).toMatchObject({ op: "twice", case: "a vector", allowed: 1e-4 });
    expect(problems[0]?.error).toBeGreaterThan(0.01);
    expect(problems[0]?.text).toMatch(
      /^twice, "a vector": dx differs from finite differences of the reference by .*, allowed 1\.0e-4$/,
    );
  });

  it("names a result that is wrong only where bindings are split", async () => {
    const problems = await checkOp(engine, wrongRanges);
    expect(new Set(problems.map(({ what, result, case: name }) => `${what} ${result} in ${name}`))).toEqual(
      new Set(["split bindings y in more than a binding"]),
    );
    expect(problems[0]?.text).toContain("with bindings of 20480 bytes and 3 workgroups a dimension");
  });

  it("names a gradient that is wrong only where an input is an activation, and the live subset", async () => {
    const problems = await checkOp(engine, wrongInPlace);
    expect(problems.map(({ what, result }) => [what, result])).toEqual([
      ["subset", "dx"],
      ["subset", "dx"],
    ]);
    expect(problems[0]?.text).toContain("with x live as activations");
  });

  it("names outputs that are not the reference's, wrong variants, and kernels that do not compile", async () => {
    expect(await found(wrongReference)).toContain("output y in a vector");
    const variant = { ...doubleVariant("wrong", { FACTOR: 3 }), gpu: false, subgroup: engine.info.subgroup ?? 8 };
    expect(await found(doubleOp([variant]))).toContain("variant y in a vector");
    const broken: Op = {
      ...right,
      forward: () => [
        { kernel: { name: "broken", code: "fn" }, entry: "forward", bindings: {}, params: {}, workgroups: 1 },
      ],
    };
    const [first] = await checkOp(engine, broken);
    expect(first).toMatchObject({ what: "failure", case: "a vector" });
    expect(first?.text).toMatch(/broken/);
  });

  it("refuses an op without a reference or cases", async () => {
    await expect(checkOp(engine, untested)).rejects.toThrow(ConfigError);
    await expect(checkOp(engine, untested)).rejects.toThrow("The op twice has no reference.");
    await expect(checkOp(engine, { ...right, cases: [] })).rejects.toThrow(
      "The op twice has no cases to be checked on.",
    );
  });

  it("refuses a value that is not an op, and cases that are not a list", async () => {
    /** Anything, where the compiler wants something else. */
    const any = (value: unknown): never => value as never;
    await expect(checkOp(engine, any(undefined))).rejects.toThrow(
      /^The op is undefined\.\nGive what defineOp\(\) returns/,
    );
    await expect(checkOp(any(right), any(undefined))).rejects.toThrow(ConfigError);
    await expect(benchOp(engine, any("linear"))).rejects.toThrow(/^The op is "linear"\./);
    await expect(benchOp(engine, right, any("x=3"))).rejects.toThrow(/^The cases are "x=3"\.\nGive a list/);
  });
});

describe("benchOp", () => {
  it("times each pass, by the clock that it names, with rates that follow from the time", async () => {
    const ceiling = await quickCeiling(engine);
    const timings = await benchOp(engine, right, undefined, { milliseconds: 1, variants: true });
    expect(timings.map(({ case: name, pass, variant }) => `${name}, ${pass}, ${variant}`)).toEqual([
      "a vector, forward, portable",
      "a vector, forward + backward, portable",
      "more than a binding, forward, portable",
      "more than a binding, forward + backward, portable",
    ]);
    const clock = engine.device.handle.features.has("timestamp-query") ? "device" : "host";
    for (const each of timings) {
      expect(each.clock).toBe(clock);
      expect(each.fastestMs).toBeGreaterThan(0);
      expect(each.fastestMs).toBeLessThanOrEqual(each.ms);
      expect(each.ms).toBeLessThanOrEqual(each.slowestMs);
      expect(each.ofFmaRate).toBeCloseTo(each.gflops / ceiling.gflops, 9);
    }
    // x is read and y is written, each of 4 bytes an element; one operation an element.
    const forward = timings[2]!;
    expect(forward.gflops * forward.fastestMs).toBeCloseTo(6000 / 1e6, 9);
    if (clock === "device") expect(forward.gigabytesPerSecond! * forward.fastestMs).toBeCloseTo(48000 / 1e6, 9);
    const [byHost] = await benchOp(engine, right, right.cases?.slice(0, 1), { milliseconds: 1, clock: "host" });
    expect(byHost?.clock).toBe("host");
    await expect(benchOp(engine, untested)).rejects.toThrow("The op twice has no cases to be timed on.");
  });
});

describe("safetape bench", () => {
  it("times an op on shapes, as a table with ratios to another result", async () => {
    const timing = {
      op: "linear",
      case: "x=8x16,w=4x16",
      pass: "forward",
      variant: "portable",
      clock: "host",
      ms: 1e6,
      fastestMs: 1e6,
      slowestMs: 1e6,
      gflops: 1,
      ofFmaRate: 1,
    };
    const ceiling = { gflops: 1, gigabytesPerSecond: 1 };
    const file = path("other.json");
    writeFileSync(file, JSON.stringify({ safetape: "0", adapter: "A", driver: "D", ceiling, timings: [timing] }));
    const shapes = ["--shapes", "x=8x16,w=4x16;x=8x16,w=4x16,bias=4"];
    const { code, stdout, stderr } = await runCli(["bench", "linear", ...shapes, "--compare", file]);
    expect(code, stderr).toBe(0);
    const lines = stdout.split("\n");
    expect(lines.find((line) => line.startsWith("clock"))).toMatch(/timestamps of the device|the host's/);
    expect(lines.find((line) => line.startsWith("compared"))).toMatch(/ A, D, safetape 0$/);
    expect(lines.find((line) => line.startsWith("op "))).toMatch(/GFLOP\/s .* GB\/s .* ms \/ other +share of a rate$/);
    const rows = lines.filter((line) => line.startsWith("linear"));
    expect(rows.map((row) => /x=\S+ +forward( \+ backward)?/.exec(row)?.[0].replace(/ +/g, " "))).toEqual([
      "x=8x16,w=4x16 forward",
      "x=8x16,w=4x16 forward + backward",
      "x=8x16,w=4x16,bias=4 forward",
      "x=8x16,w=4x16,bias=4 forward + backward",
    ]);
    // A ratio to a million milliseconds and a bar; the other result has only the first row.
    expect(rows[0]).toMatch(/ \d\S*e-\d+ +[█░]{20}$/);
    expect(rows[1]).toMatch(/ - +[█░]{20}$/);
  });

  it("times the ops of a module", async () => {
    const file = path("op.mjs");
    const kernel = `@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(1) fn forward() { y[0] = 1.0; }`;
    writeFileSync(
      file,
      `export default { name: "one", inputs: { x: {} }, outputs: ["y"], gradients: [], flops: () => 1,
  infer: () => ({ y: { shape: [1], dtype: "f32" } }),
  forward: () => [{ kernel: { name: "one", code: ${JSON.stringify(kernel)} }, entry: "forward", bindings: { y: "y" }, params: {}, workgroups: 1 }] };`,
    );
    const without = await runCli(["bench", file]);
    expect([without.code, without.stderr]).toEqual([2, "one has no cases.\nGive it some, or --shapes of its inputs."]);
    const { code, stdout, stderr } = await runCli(["bench", file, "--shapes", "x=3", "--json"]);
    expect(code, stderr).toBe(0);
    const result = parseJson<BenchResult>(stdout);
    expect(result.timings).toMatchObject([{ op: "one", case: "x=3", pass: "forward" }]);
    expect([result.adapter, result.driver]).toEqual([
      engine.info.device || engine.info.vendor,
      engine.info.description,
    ]);
    expect(result.ceiling.gflops).toBeGreaterThan(0);
    writeFileSync(path("result.json"), stdout);
    expect(await readBenchResult(path("result.json"))).toEqual(result);
  });
});
