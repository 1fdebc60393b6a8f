import { expect, it } from "vitest";
import { gpuBytes, processBytes } from "../../bench/support/meter";
import { verdictOf } from "../../bench/support/return-verdict";
import type { Reading, Return } from "../../bench/support/return-verdict";

const returnsOf = (...measured: number[]): Return[] =>
  measured.map((bytes, i) => ({
    "frozen layers": i + 1,
    "ledger bytes returned": 1000,
    "measured bytes returned": bytes,
  }));

const readingsOf = (...bytes: number[]): Reading[] =>
  bytes.map((each, i) => ({ step: 100 * i, "measured bytes": each }));

it("accepts a process that shrinks by what the ledger returned and then stays constant", () => {
  const { ratio, drift, broken } = verdictOf(returnsOf(1040, 970), readingsOf(5000, 5040, 4960));
  expect(ratio).toBeCloseTo(1.005, 9);
  expect(drift).toBeCloseTo(0.008, 9);
  expect(broken).toEqual([]);
});

it("rejects a process that shrinks by too little or too much", () => {
  for (const measured of [940, 1060]) {
    const { broken } = verdictOf(returnsOf(measured, measured), readingsOf(5000, 5000));
    expect(broken).toEqual([`returned ${(measured / 1000).toFixed(3)} of what the ledger says`]);
  }
});

it("rejects a process of which one later reading is too large or too small", () => {
  for (const bytes of [5060, 4940]) {
    expect(verdictOf(returnsOf(1000), readingsOf(5000, bytes, 5000)).broken).toEqual(["drifted by 1.20 %"]);
  }
});

it("rejects a run that returned or measured nothing", () => {
  expect(verdictOf([], readingsOf(5000, 5000)).broken).toHaveLength(1);
  expect(verdictOf(returnsOf(1000), readingsOf(5000)).broken).toHaveLength(1);
  expect(verdictOf(returnsOf(Number.NaN), readingsOf(Number.NaN, Number.NaN)).broken).toHaveLength(2);
});

it("finds a process in the output of nvidia-smi, and sums the memory of all GPUs", () => {
  const lines = "17, 120\n4242, 300\n4242, 12\n99, [N/A]\n";
  expect(processBytes(lines, 4242)).toBe(312 * 1024 ** 2);
  expect(processBytes(lines, 99)).toBeUndefined();
  expect(processBytes("", 4242)).toBeUndefined();
  expect(gpuBytes("512\n3\n")).toBe(515 * 1024 ** 2);
});
