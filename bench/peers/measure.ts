import { round } from "../support/results";
import { FEWEST_RUNS } from "./workload";
import type { BenchedEngine, Runner, Workload } from "./workload";

/** Limits of the turns that an engine takes on a workload: milliseconds, and number. */
const BUDGET_MS = 1500;
const MAX_TURNS = 25;

/**
 * Shortest duration of a turn. A short run is repeated and counts with the mean of its durations: otherwise it would mostly
 * measure the waking of threads that slept during other engines' turns, and the collection of their garbage.
 */
const MIN_TURN_MS = 15;

/** Largest relative difference of the results of two engines, by norms. */
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
 * Measures one workload on every engine: checks that the results agree, then times alternating runs.
 * @param wait waits for the end of a run of any engine.
 */
export async function measure(
  engines: readonly BenchedEngine[],
  workload: Workload,
  wait: (work: Promise<void>) => Promise<void>,
): Promise<Readonly<Record<string, Figure>>> {
  const entries: Entry[] = [];
  let expected: Float32Array[] | undefined;
  for (const engine of engines) {
    const entry: Entry = { engine, runner: undefined, reason: "", times: [] };
    entries.push(entry);
    // Clears late errors of the previous workload.
    await failureOf(() => engine.check?.());
    await attempt(entry, async () => {
      entry.runner = await engine.prepare(workload);
      const start = performance.now();
      const outputs = await entry.runner.outputs();
      if (expected) checkSame(expected, outputs);
      expected ??= outputs;
      // Warms up; a long run has done so already.
      if (performance.now() - start < BUDGET_MS) await entry.runner.run();
    });
  }
  expected = undefined;
  for (let turn = 0; turn < MAX_TURNS; turn++) {
    for (const entry of entries) if (isDue(entry)) await attempt(entry, () => takeTurn(entry, wait));
  }
  for (const { runner } of entries) runner?.dispose();
  return Object.fromEntries(entries.map((entry) => [entry.engine.name, figure(entry, workload.flops)]));
}

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

const isDue = ({ runner, times }: Entry): boolean =>
  runner !== undefined && (times.length < FEWEST_RUNS || sum(times) < BUDGET_MS);

async function takeTurn({ runner, times }: Entry, wait: (work: Promise<void>) => Promise<void>): Promise<void> {
  const start = performance.now();
  const elapsedMs = (): number => performance.now() - start;
  let runs = 0;
  while (runs === 0 || elapsedMs() < MIN_TURN_MS) {
    await wait(runner!.run());
    runs++;
  }
  times.push(elapsedMs() / runs);
}

/** A peer that fails gets the reason in its row, and the bench continues. A failure of this engine is thrown. */
async function attempt(entry: Entry, work: () => Promise<void>): Promise<void> {
  const failure = (await failureOf(work)) ?? (await failureOf(() => entry.engine.check?.()));
  if (!failure) return;
  if (entry.engine.name === "safetape") throw failure;
  // If the device reported an error, that explains more than a wrong result does.
  const deviceError = await failureOf(() => entry.engine.check?.());
  entry.reason = (deviceError ?? failure).message.split("\n")[0] ?? "";
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

/** Throws if a peer computes something else: then its time cannot be compared. */
function checkSame(ours: readonly Float32Array[], theirs: readonly Float32Array[]): void {
  ours.forEach((tensor, i) => {
    const other = theirs[i];
    let [squaredError, squaredNorm] = [0, 0];
    tensor.forEach((value, j) => {
      squaredError += (value - (other?.[j] ?? NaN)) ** 2;
      squaredNorm += value ** 2;
    });
    const error = Math.sqrt(squaredError / squaredNorm);
    if (!(error <= TOLERANCE))
      throw new Error(`its result ${i} differs from ours by ${error.toPrecision(2)} of the norm`);
  });
}
