import fc from "fast-check";
import { afterAll, describe, test } from "vitest";
import { mutated, mutatedJson } from "../hostile/arbitrary";
import { READERS, readInput } from "../hostile/corpus";
import { seedsOf } from "../hostile/reader";
import type { Reader } from "../hostile/reader";
import { startWatchdog } from "../hostile/watchdog";

const RUNS = Number(process.env["SAFETAPE_FUZZ_RUNS"] ?? 500);
const SEED = Number(process.env["SAFETAPE_FUZZ_SEED"] ?? 1);
/** Larger seeds are left out, since nobody can read a counterexample of that size. */
const MAX_BYTES = 6000;

const watchdog = startWatchdog(READERS.map(({ name }) => name));
afterAll(() => watchdog.stop());

/** Mutations of a reader's seeds: edits of their bytes and, in JSON, odd values. */
function hostile({ seeds, form }: Reader): fc.Arbitrary<Uint8Array> {
  const small = [...seedsOf(seeds).values()].filter(({ length }) => length <= MAX_BYTES);
  const values = form === "json" ? small.flatMap(jsonOf) : [];
  const edited = fc.constantFrom(...small).chain(mutated);
  return values.length === 0 ? edited : fc.oneof(edited, fc.constantFrom(...values).chain(mutatedJson));
}

/** The value of a JSON text as a list of one; an empty list for other bytes. */
function jsonOf(bytes: Uint8Array): unknown[] {
  try {
    return [JSON.parse(new TextDecoder().decode(bytes))];
  } catch {
    return [];
  }
}

describe(`${RUNS} hostile inputs per reader, from seed ${SEED}`, () => {
  test.each(READERS.map((reader, i) => [reader.name, i] as const))("%s", async (_name, i) => {
    const reader = READERS[i]!;
    let input = 0;
    const property = fc.asyncProperty(hostile(reader), async (bytes) => {
      watchdog.begin(i, input++);
      await readInput(reader, { name: `${input}`, bytes });
    });
    await fc.assert(property, { numRuns: RUNS, seed: SEED });
    watchdog.begin(i, -1);
  });
});
