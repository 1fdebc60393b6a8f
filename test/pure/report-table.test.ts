import { expect, test } from "vitest";
import { packReports, unpackReports } from "../../src/cli/report-table";
import type { StepReport } from "../../src/train/loop/reports";

const BYTES = { weight: 1, state: 2, saved: 3, scratch: 4 };

const reportOf = (step: number, overrides: Partial<StepReport> = {}): StepReport => ({
  step,
  totalSteps: 9,
  epoch: step / 3,
  loss: Math.fround(0.1 * step),
  learningRate: 0.1,
  gradientNorm: 1 / step,
  seconds: 0.5,
  examplesPerSecond: Infinity,
  bytes: BYTES,
  planned: BYTES,
  flops: 1e15 + step,
  horizon: 0,
  frozenTensors: 0,
  rowsAtOnce: 4,
  recomputed: 0,
  prefix: undefined,
  scores: undefined,
  freezes: [],
  compaction: undefined,
  skipped: [],
  ...overrides,
});

test("reports survive a round trip, including fields that only some of them have", () => {
  const scores = { kind: "importance" as const, values: { 0: 0.25, 1: 1e-9 } };
  const freeze = { step: 2, tensors: ["a"], layers: [0], returnedBytes: 8, returned: BYTES, bytes: BYTES };
  const reports = [
    reportOf(1),
    reportOf(2, { scores, freezes: [{ ...freeze, flops: { before: 2, after: 1 } }] }),
    reportOf(3, { horizon: undefined, prefix: { layer: 1, hits: 2, parts: 3, bytes: 4 }, loss: NaN }),
  ];
  const { table, bits } = packReports(reports);
  // JSON keeps the shape of a table of plain values.
  const parsed = JSON.parse(JSON.stringify(table)) as typeof table;
  expect(unpackReports(parsed, bits)).toEqual(reports);
  expect(unpackReports(packReports([]).table, packReports([]).bits)).toEqual([]);
});
