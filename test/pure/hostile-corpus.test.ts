import { readFileSync } from "node:fs";
import { afterAll, describe, expect, it } from "vitest";
import { MUTATED, READERS, SEED } from "../hostile/corpus";
import { watchedOutcomes } from "../hostile/outcomes";
import type { Outcomes } from "../hostile/outcomes";
import { startWatchdog } from "../hostile/watchdog";

interface Committed {
  readonly seed: number;
  readonly mutated: number;
  readonly readers: Readonly<Record<string, Outcomes>>;
}

// A committed file, written by write-outcomes.ts.
const committed = JSON.parse(readFileSync("test/hostile/outcomes.json", "utf8")) as Committed;
const watchdog = startWatchdog(READERS.map(({ name }) => name));
afterAll(() => watchdog.stop());

describe("the corpus of hostile files", () => {
  it("is the committed one, with at least 2,000 mutations for every reader", () => {
    expect({ seed: committed.seed, mutated: committed.mutated }).toEqual({ seed: SEED, mutated: MUTATED });
    expect(MUTATED).toBeGreaterThanOrEqual(2000);
    expect(Object.keys(committed.readers)).toEqual(READERS.map(({ name }) => name));
  });

  it.each(READERS.map((reader, i) => [reader.name, i] as const))("%s: every input ends as it did", async (name, i) => {
    const run = { count: MUTATED, seed: SEED };
    const { costs: _costs, ...outcomes } = await watchedOutcomes(watchdog, i, READERS[i]!, run);
    const { sha256, ...expected } = committed.readers[name]!;
    expect(outcomes.sha256, "the inputs' bytes").toBe(sha256);
    expect(outcomes).toMatchObject(expected);
    expect(outcomes.counts["result"], "inputs that are read").toBeGreaterThan(0);
  });
});
