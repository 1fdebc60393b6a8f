import type { Engine } from "../../src/engine";
import type { Lease } from "../../src/gpu/pool";
import { Executor } from "../../src/run/executor";
import type { Inputs } from "../../src/run/executor";
import { gradientName } from "../../src/run/store";
import { specBytes } from "../../src/tape/emit";
import type { Plan } from "../../src/tape/plan";

/** Median and spread of repeated runs, in milliseconds. */
export interface Timing {
  readonly median: number;
  readonly fastest: number;
  readonly slowest: number;
}

/** Runs something until it took `budget` ms or `most` rounds, after one round that does not count. */
export async function time(run: () => Promise<unknown>, budget = 1000, most = 15): Promise<Timing> {
  await run();
  const times: number[] = [];
  const end = performance.now() + budget;
  while (times.length < 3 || (times.length < most && performance.now() < end)) {
    const start = performance.now();
    await run();
    times.push(performance.now() - start);
  }
  times.sort((a, b) => a - b);
  return {
    median: times[Math.floor(times.length / 2)]!,
    fastest: times[0]!,
    slowest: times.at(-1)!,
  };
}

/** What one of several alternating runs took, run by run, in milliseconds. */
export interface Turn {
  readonly clock: number[];
  /** All threads of the process: other programs disturb it less than the clock. */
  readonly cpu: number[];
}

/** Times runs in turn, so that noise of the machine meets all alike; two rounds before do not count. */
export async function timeInTurn(runs: readonly (() => Promise<unknown>)[], rounds: number): Promise<Turn[]> {
  const turns = runs.map((): Turn => ({ clock: [], cpu: [] }));
  for (let round = -2; round < rounds; round++) {
    for (const [i, run] of runs.entries()) {
      const [start, before] = [performance.now(), process.cpuUsage()];
      await run();
      const { user, system } = process.cpuUsage(before);
      if (round < 0) continue;
      turns[i]?.clock.push(performance.now() - start);
      turns[i]?.cpu.push((user + system) / 1000);
    }
  }
  return turns;
}

/** A plan with parameters and gradients of its own, ready to run. */
export async function preparePlan(engine: Engine, plan: Plan, inputs: Inputs) {
  const { pool } = engine.device;
  const leases = new Map<string, Lease>();
  for (const [name, spec] of plan.parameters) leases.set(name, pool.lease(specBytes(spec), "weight"));
  for (const [name, spec] of plan.gradients) leases.set(gradientName(name), pool.lease(specBytes(spec), "state"));
  const executor = new Executor(engine.device);
  await executor.hold([plan]);
  return {
    run: () => executor.run(plan, { lease: (name) => leases.get(name)! }, inputs),
    [Symbol.dispose]() {
      executor.dispose();
      for (const lease of leases.values()) pool.return(lease);
    },
  };
}

/** Times a plan, uploads and readback included. */
export async function timePlan(engine: Engine, plan: Plan, inputs: Inputs): Promise<Timing> {
  using prepared = await preparePlan(engine, plan, inputs);
  return await time(prepared.run);
}
