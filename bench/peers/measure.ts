import { round } from "../support/results";
import { FEWEST_RUNS } from "./workload";
import type { BenchedEngine, Runner, Workload } from "./workload";

/** Each engine's share of a workload, in milliseconds, and its number of turns. */
const BUDGET = 1500;
const MOST_TURNS = 25;

/**
 * A turn takes at least so many milliseconds: a short run is repeated, and counts as the mean. Else its time would be that
 * of waking what the other engines let sleep, and of their garbage.
 */
const TURN = 15;

/** Results of two engines differ by at most this, by norms. */
const TOLERANCE = 1e-3;

export type Figure =
  | { readonly ms: number; readonly fastest: number; readonly slowest: number; readonly "GFLOP/s": number }
  | { readonly reason: string };

interface Entry {
  readonly engine: BenchedEngine;
  runner: Runner | undefined;
  reason: string;
  readonly times: number[];
}

/**
 * One workload on every engine: first the same results, then times, an engine's run after the other's.
 * @param waiting how the end of a run is awaited, whose ever it is.
 */
export async function measure(
  engines: readonly BenchedEngine[],
  workload: Workload,
  waiting: (work: Promise<void>) => Promise<void>,
): Promise<Readonly<Record<string, Figure>>> {
  const entries: Entry[] = [];
  let expected: Float32Array[] | undefined;
  for (const engine of engines) {
    const entry: Entry = { engine, runner: undefined, reason: "", times: [] };
    entries.push(entry);
    // What came late of the workload before is not this one's.
    await failureOf(() => engine.check?.());
    await attempt(entry, async () => {
      entry.runner = await engine.prepare(workload);
      const start = performance.now();
      const outputs = await entry.runner.outputs();
      if (expected) checkSame(expected, outputs);
      expected ??= outputs;
      // A long run's pipelines and memory are warm by now.
      if (performance.now() - start < BUDGET) await entry.runner.run();
    });
  }
  expected = undefined;
  for (let turn = 0; turn < MOST_TURNS; turn++) {
    for (const entry of entries) if (isDue(entry)) await attempt(entry, () => takeTurn(entry, waiting));
  }
  for (const { runner } of entries) runner?.dispose();
  return Object.fromEntries(entries.map((entry) => [entry.engine.name, figure(entry, workload.flops)]));
}

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

const isDue = ({ runner, times }: Entry): boolean =>
  runner !== undefined && (times.length < FEWEST_RUNS || sum(times) < BUDGET);

async function takeTurn({ runner, times }: Entry, waiting: (work: Promise<void>) => Promise<void>): Promise<void> {
  const start = performance.now();
  const soFar = (): number => performance.now() - start;
  let runs = 0;
  while (runs === 0 || soFar() < TURN) {
    await waiting(runner!.run());
    runs++;
  }
  times.push(soFar() / runs);
}

/** A peer that fails says why in its row; the bench goes on. */
async function attempt(entry: Entry, work: () => Promise<void>): Promise<void> {
  const failure = (await failureOf(work)) ?? (await failureOf(() => entry.engine.check?.()));
  if (!failure) return;
  if (entry.engine.name === "safetape") throw failure;
  // What the device said of it, where it did, explains more than a wrong result.
  const refusal = await failureOf(() => entry.engine.check?.());
  entry.reason = (refusal ?? failure).message.split("\n")[0] ?? "";
  entry.runner?.dispose();
  entry.runner = undefined;
}

async function failureOf(work: () => Promise<void> | void): Promise<Error | undefined> {
  try {
    await work();
    return undefined;
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}

function figure({ runner, reason, times }: Entry, flops: number): Figure {
  if (!runner) return { reason };
  const sorted = [...times].sort((a, b) => a - b);
  const [median, fastest, slowest] = [sorted[Math.floor(sorted.length / 2)]!, sorted[0]!, sorted.at(-1)!];
  const [ms, least, most] = [round(median), round(fastest), round(slowest)];
  return { ms, fastest: least, slowest: most, "GFLOP/s": round(flops / median / 1e6) };
}

/** A peer that computes something else is no peer. */
function checkSame(ours: readonly Float32Array[], theirs: readonly Float32Array[]): void {
  ours.forEach((tensor, i) => {
    const other = theirs[i];
    let [apart, size] = [0, 0];
    tensor.forEach((value, j) => {
      apart += (value - (other?.[j] ?? NaN)) ** 2;
      size += value ** 2;
    });
    const error = Math.sqrt(apart / size);
    if (!(error <= TOLERANCE))
      throw new Error(`its result ${i} differs from ours by ${error.toPrecision(2)} of the norm`);
  });
}
