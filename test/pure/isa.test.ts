import { readdirSync, readFileSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import { compileKernels, FIRST_CONSTANTS } from "../../bench/isa/compile-all";
import type { CompiledAll } from "../../bench/isa/compile-all";
import type { Entry } from "../../bench/isa/entry";
import { heavyBlocks, hottest, readMachineCode, streamingBlocks } from "../../bench/isa/machine-code";
import { differences, missedBy, readMissed } from "../../bench/isa/missed";
import { BOUNDED, rowsOf } from "../../bench/isa/rows";
import { missingTool } from "../../bench/isa/toolchain";
import { bundleProgram } from "../../scripts/bundle-program.mjs";
import { isLong as hasWholeSuites } from "../support/long";

const missing = missingTool();
const reason = missing === undefined ? "" : ` (skipped: ${missing})`;
const TEN_MINUTES = 600_000;
/** Whether all bounded families are compiled for, as by `npm run test:isa`: each takes a minute. `npm test` takes one, and few constants. */
const isLong = process.env["SAFETAPE_ALL_GPUS"] !== undefined;
const FAMILIES = isLong ? BOUNDED : BOUNDED.filter((family) => family === "RDNA3");

describe.skipIf(missing !== undefined)(`machine code for AMD's GPUs${reason}`, () => {
  let compiled: CompiledAll<Entry>["compiled"] = [];

  beforeAll(async () => {
    const program = await bundleProgram("bench/isa.ts");
    const filter = isLong || hasWholeSuites ? [] : [FIRST_CONSTANTS];
    ({ compiled } = await compileKernels({ program, families: FAMILIES }, filter));
  }, TEN_MINUTES);

  it("is made of every entry of every kernel", () => {
    const entryPoints = readdirSync("kernels", { encoding: "utf8" })
      .filter((file) => file.endsWith(".wgsl"))
      .flatMap((file) => {
        const code = readFileSync(`kernels/${file}`, "utf8");
        return [...code.matchAll(/@compute[^{]*?\bfn (\w+)/g)].map(([, entry]) => file.replace("wgsl", entry!));
      });
    const compiledEntries = new Set(compiled.map(({ of: { kernel, entry } }) => `${kernel}.${entry}`));
    expect(entryPoints.filter((name) => !compiledEntries.has(name))).toEqual([]);
  });

  it("misses the bounds of bench/isa/missed.json and no others; npm run bench:isa -- --accept writes that list", async () => {
    const changes = differences(missedBy(rowsOf(compiled)), await readMissed());
    // The list has the worst values of all families, of which one alone may be better.
    expect(isLong ? changes : changes.filter((line) => line.startsWith("worse"))).toEqual([]);
  });
});

/** Statistics and code as RADV prints them, of RDNA3 and RDNA2 in one. */
const LISTING = `
BB0:
	s_load_b128 s[4:7], s[2:3], 0x20                            ; f4080101 f8000020
	buffer_load_b32 v3, v4, s[0:3], 0 offen                     ; e0500000 80400004
	v_mad_u32_u24 v1, v0, v0, v0                                ; d70b0001 04020100
BB1:
	ds_load_b128 v[0:3], v9                                     ; dbfc0000 00000009
	ds_load_2addr_b64 v[0:3], v9 offset1:1                      ; d8dc0100 00000009
	ds_read2_b32 v[4:5], v9 offset1:4                           ; d8dc0400 04000009
	buffer_load_dwordx4 v[0:3], v4, s[0:3], 0 offen             ; e0500000 80400004
	v_fmac_f32_e32 v5, v0, v1                                   ; 560a0300
	v_dual_fmac_f32 v0, v1, v2 :: v_dual_mov_b32 v3, v4         ; c8000501 00020104
	v_pk_fma_f16 v0, v1, v2, v3                                 ; cc0e0000 1c0e0501
	v_add_f32_e32 v0, v0, v17                                   ; 06002300
	s_cbranch_scc0 BB1                                          ; bfa1fff0
BB2:
	buffer_store_b64 v[0:1], v4, s[0:3], 0 offen                ; e0680000 80400004
	scratch_store_b32 off, v0, s0                               ; dc690000 00800000

VGPRs: 48
Spilled VGPRs: 2
LDS size: 4608
Scratch size: 256
Subgroups per SIMD: 16
Instructions: 20
Inverse Throughput: 100
`;

describe("reading machine code", () => {
  const code = readMachineCode(LISTING);

  it("counts multiply-adds of floats, vector instructions and bytes by block", () => {
    expect(hottest(code)).toMatchObject({
      name: "BB1",
      fma: 4,
      valu: 5,
      ldsBytes: 16 + 16 + 8,
      reads: [16],
      writes: [],
    });
    expect(code.blocks.map(({ scratch }) => scratch)).toEqual([0, 0, 1]);
    expect(code).toMatchObject({ registers: 48, spilled: 2, scratchBytes: 256, waves: 16, ldsBytes: 4608 });
  });

  it("finds the loops, and in them the accesses of global memory", () => {
    expect(code.blocks.map(({ isInLoop }) => isInLoop)).toEqual([false, true, false]);
    expect(streamingBlocks(code).map(({ name }) => name)).toEqual(["BB1"]);
  });

  it("counts the inner loops as heavy, and not what a loop around them does once a turn", () => {
    const capped = "\tv_fma_f32 v0, v1, v2, v3\n\tv_add_f32_e32 v0, v0, v17\n".repeat(3);
    const nested = LISTING.replace("BB1:", `BB4:\n${capped}BB1:`).replace("BB2:", "\ts_cbranch_scc0 BB4\nBB2:");
    const blocks = readMachineCode(nested).blocks;
    expect(blocks.map(({ name, fma, isInLoop, isInnermost }) => [name, fma, isInLoop, isInnermost])).toEqual([
      ["BB0", 0, false, false],
      ["BB4", 3, true, false],
      ["BB1", 4, true, true],
      ["BB2", 0, false, false],
    ]);
    expect(heavyBlocks(readMachineCode(nested)).map(({ name }) => name)).toEqual(["BB1"]);
  });

  it("says what became better or worse", () => {
    const known = { a: { "waves per SIMD": 4 }, b: { registers: 200 } };
    expect(differences(known, known)).toEqual([]);
    expect(differences({ a: { "waves per SIMD": 5 }, b: { registers: 250 } }, known)).toEqual([
      "better: a: waves per SIMD is 5, 4 before",
      "worse: b: registers is 250, 200 before",
    ]);
    expect(differences({}, { b: { registers: 200 } })).toEqual(["better: b: registers is kept (or gone), 200 before"]);
    expect(differences({ b: { registers: 200 } }, {})).toEqual(["worse: b: registers is 200"]);
  });
});
