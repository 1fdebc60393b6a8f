import papa from "papaparse";
import { LIFETIMES, sumBytes } from "../gpu/ledger";
import type { Bytes } from "../gpu/ledger";
import type { RunRecord } from "./record";

/** Rows as comma-separated values, with the names of the columns in the first line. */
export const csvText = (rows: readonly object[]): string => `${papa.unparse<object>([...rows], { newline: "\n" })}\n`;

/** The numbers of a run as CSV files. Files without rows are left out. */
export function csvFiles(record: RunRecord): { readonly file: string; readonly text: string }[] {
  const { steps, freezes, compactions = [], scores, evaluations } = record;
  const files = {
    "steps.csv": steps.map(({ bytes, planned, horizon, ...step }) => ({
      ...step,
      horizon: horizon ?? "",
      ...byLifetime("bytes", bytes),
      ...byLifetime("planned", planned),
    })),
    "freezes.csv": freezes.map(({ step, layers, tensors, returnedBytes, returned, flops }) => ({
      step,
      layers: layers.join(" "),
      tensors: tensors.join(" "),
      returnedBytes,
      ...byLifetime("returned", returned),
      flopsBefore: flops.before,
      flopsAfter: flops.after,
    })),
    "compactions.csv": compactions.map(({ returned, flops, bytes, ...compaction }) => ({
      ...compaction,
      ...byLifetime("returned", returned),
      ...byLifetime("bytes", bytes),
      flopsBefore: flops.before,
      flopsAfter: flops.after,
    })),
    "scores.csv": scores.flatMap(({ step, kind, values }) =>
      Object.entries(values).map(([of, score]) => ({ step, epoch: step / record.stepsPerEpoch, kind, of, score })),
    ),
    "evaluations.csv": evaluations.flatMap(({ step, metrics }) =>
      Object.entries(metrics).map(([metric, value]) => ({ step, metric, value })),
    ),
  };
  return Object.entries(files)
    .filter(([, rows]) => rows.length > 0)
    .map(([file, rows]) => ({ file, text: csvText(rows) }));
}

function byLifetime(name: string, bytes: Bytes): Record<string, number> {
  const columns = LIFETIMES.map((lifetime) => [`${name}_${lifetime}`, bytes[lifetime]] as const);
  return { ...Object.fromEntries(columns), [`${name}_total`]: sumBytes(bytes) };
}
