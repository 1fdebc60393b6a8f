import { readFile, writeFile } from "node:fs/promises";
import { BOUNDS } from "./bounds";
import type { Row } from "./rows";

/** The worst value of every bound that is missed, by what is compiled (`Row.key`) and the bound's name. */
export type Missed = Readonly<Record<string, Readonly<Record<string, number>>>>;

const FILE = "bench/isa/missed.json";

/** Values that differ by less are the same: other versions of a compiler order instructions differently. */
const TOLERANCE = 0.05;

/** The bounds that are known to be missed. Their list may only become shorter. */
// Written by `writeMissed`.
export const readMissed = async (): Promise<Missed> => JSON.parse(await readFile(FILE, "utf8")) as Missed;

export async function writeMissed(missed: Missed): Promise<void> {
  await writeFile(FILE, `${JSON.stringify(missed, null, 2)}\n`);
}

/** The bounds that chosen entries miss, with the worst value of all families and constants. */
export function missedBy(rows: readonly Row[]): Missed {
  const missed: Record<string, Record<string, number>> = {};
  for (const { key, use, misses } of rows) {
    if (use.origin === "variant") continue;
    for (const { bound, value } of misses) {
      const worst = (missed[key] ??= {});
      const rounded = Number(value.toPrecision(3));
      worst[bound] = isBetter(bound, rounded, worst[bound] ?? rounded) ? worst[bound]! : rounded;
    }
  }
  const sorted = (values: Record<string, number>) =>
    Object.fromEntries(Object.entries(values).sort(([a], [b]) => a.localeCompare(b)));
  return Object.fromEntries(
    Object.entries(missed)
      .sort(([a], [b]) => a.localeCompare(b))
      .map(([key, values]) => [key, sorted(values)]),
  );
}

/** Whether a value keeps a bound better than another one. */
function isBetter(bound: string, value: number, than: number): boolean {
  const isLeast = BOUNDS.some(({ name, least }) => name === bound && least);
  return isLeast ? value > than : value < than;
}

/** How the bounds that are missed differ from those that are known to be: a line for each that became better or worse. */
export function differences(missed: Missed, known: Missed): string[] {
  const keys = [...new Set([...Object.keys(known), ...Object.keys(missed)])].sort();
  return keys.flatMap((key) => {
    const [values, knownValues] = [missed[key] ?? {}, known[key] ?? {}];
    return [...new Set([...Object.keys(knownValues), ...Object.keys(values)])].flatMap((bound) => {
      const [value, knownValue] = [values[bound], knownValues[bound]];
      if (value === undefined) return [`better: ${key}: ${bound} is kept (or gone), ${knownValue} before`];
      if (knownValue === undefined) return [`worse: ${key}: ${bound} is ${value}`];
      if (Math.abs(value - knownValue) <= TOLERANCE * Math.max(value, knownValue)) return [];
      const change = isBetter(bound, value, knownValue) ? "better" : "worse";
      return [`${change}: ${key}: ${bound} is ${value}, ${knownValue} before`];
    });
  });
}
