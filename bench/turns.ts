// One side of scripts/compare-speed.mjs, which puts this file into both checkouts: so it imports only what older ones have too.
// For every line of stdin, a workload of `bench:peers` or nothing, it prints a line: the milliseconds of one turn on this
// engine, or the names of all workloads.
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
let current: { readonly name: string; readonly runner: Runner } | undefined;

/** The mean duration of runs in milliseconds, of as many as last at least `least` milliseconds. */
async function turn(runner: Runner, least: number): Promise<number> {
  const start = performance.now();
  for (let runs = 1; ; runs++) {
    await runner.run();
    const elapsed = performance.now() - start;
    if (elapsed >= least) return elapsed / runs;
  }
}

async function prepared(name: string): Promise<Runner> {
  if (current?.name === name) return current.runner;
  current?.runner.dispose();
  const workload = workloads.map((make) => make()).find((candidate) => candidate.name === name);
  if (!workload) throw new Error(`There is no workload "${name}".`);
  const runner = await bench.prepare(workload);
  const first = await turn(runner, 0);
  if (first < LONG_RUN_MS) await turn(runner, MIN_TURN_MS);
  current = { name, runner };
  return runner;
}

for await (const name of createInterface({ input: process.stdin })) {
  const answer = name ? await turn(await prepared(name), MIN_TURN_MS) : workloads.map((make) => make().name);
  console.log(JSON.stringify(answer));
}
current?.runner.dispose();
engine.dispose();
