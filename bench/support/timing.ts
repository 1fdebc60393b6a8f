import type { Engine } from "../../src/engine";
import type { Lease } from "../../src/gpu/pool";
import { Executor } from "../../src/run/executor";
import type { Inputs } from "../../src/run/executor";
import { gradientName } from "../../src/run/store";
import { specBytes } from "../../src/tape/emit";
import type { Plan } from "../../src/tape/plan";

/** Durations of repeated runs, in milliseconds. */
export interface Timing {
  readonly median: number;
  readonly fastest: number;
  readonly slowest: number;
}

/** Times a run at least 3 and at most `maxRounds` times within `budgetMs`, after one round of warm-up. */
export async function time(run: () => Promise<unknown>, budgetMs = 1000, maxRounds = 15): Promise<Timing> {
  await run();
  const times: number[] = [];
  const end = performance.now() + budgetMs;
  while (times.length < 3 || (times.length < maxRounds && performance.now() < end)) {
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

/** Durations of one of several alternating runs, round by round. */
export interface RunTimes {
  readonly wallMs: number[];
  /** CPU time of all threads of this process, which other programs disturb less than wall time. */
  readonly cpuMs: number[];
}

/** Times runs alternately, so that noise affects all of them equally, after two rounds of warm-up. */
export async function timeAlternately(runs: readonly (() => Promise<unknown>)[], rounds: number): Promise<RunTimes[]> {
  const times = runs.map((): RunTimes => ({ wallMs: [], cpuMs: [] }));
  for (let round = -2; round < rounds; round++) {
    for (const [i, run] of runs.entries()) {
      const [start, cpuBefore] = [performance.now(), process.cpuUsage()];
      await run();
      const { user, system } = process.cpuUsage(cpuBefore);
      if (round < 0) continue;
      times[i]?.wallMs.push(performance.now() - start);
      times[i]?.cpuMs.push((user + system) / 1000);
    }
  }
  return times;
}

/** Makes a plan ready to run, with zeros for its parameters and buffers for its gradients. */
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

/** Times a plan, including its uploads and readbacks. */
export async function timePlan(engine: Engine, plan: Plan, inputs: Inputs): Promise<Timing> {
  using prepared = await preparePlan(engine, plan, inputs);
  return await time(prepared.run);
}
