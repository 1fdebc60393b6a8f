// One side of scripts/compare-speed.mjs, which puts this file into both checkouts: so it imports only what older ones have too.
// For every line of stdin, the number of a workload of `bench:peers`, it prints a line: the workload's name and the milliseconds
// of one turn on this engine, by the clock and of all cores, or null if there are not so many.
import { createInterface } from "node:readline";
import { createEngine } from "../src/node/index";
import { attentionWorkloads } from "./peers/attention";
import { productWorkloads } from "./peers/products";
import { rowWorkloads } from "./peers/rows";
import { safetape } from "./peers/safetape";
import { stepWorkloads } from "./peers/step";
import type { Runner } from "./peers/workload";

/** Shortest duration of a turn, and the longest run that is repeated to warm up, in milliseconds. */
const [MIN_TURN_MS, LONG_RUN_MS] = [15, 500];

const engine = await createEngine();
const bench = safetape(engine);
const workloads = [productWorkloads(), attentionWorkloads(), rowWorkloads(), await stepWorkloads(engine)].flat();
let current: { readonly number: number; readonly name: string; readonly runner: Runner } | undefined;

/** The mean durations of runs in milliseconds, by the clock and on all cores, of as many as last at least `least` milliseconds. */
async function turn(runner: Runner, least: number): Promise<{ ms: number; cpuMs: number }> {
  const start = performance.now();
  const startCpu = process.cpuUsage();
  for (let runs = 1; ; runs++) {
    await runner.run();
    const elapsed = performance.now() - start;
    if (elapsed < least) continue;
    const { user, system } = process.cpuUsage(startCpu);
    return { ms: elapsed / runs, cpuMs: (user + system) / 1000 / runs };
  }
}

/** Makes the workload of a number ready, unless it is; undefined if there are not so many. */
async function prepared(number: number): Promise<typeof current> {
  if (current?.number === number) return current;
  current?.runner.dispose();
  current = undefined;
  // A workload's data takes seconds to make, so it is not made before it is needed.
  const workload = workloads[number]?.();
  if (!workload) return undefined;
  const runner = await bench.prepare(workload);
  const first = await turn(runner, 0);
  if (first.ms < LONG_RUN_MS) await turn(runner, MIN_TURN_MS);
  return (current = { number, name: workload.name, runner });
}

for await (const line of createInterface({ input: process.stdin })) {
  const ready = await prepared(Number(line));
  console.log(JSON.stringify(ready ? { name: ready.name, ...(await turn(ready.runner, MIN_TURN_MS)) } : null));
}
current?.runner.dispose();
engine.dispose();
