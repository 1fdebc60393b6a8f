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
    median: times[Math.floor(times.length / 2)] as number,
    fastest: times[0] as number,
    slowest: times.at(-1) as number,
  };
}

/** Times a plan with its own parameters and gradients, uploads and readback included. */
export async function timePlan(engine: Engine, plan: Plan, inputs: Inputs): Promise<Timing> {
  const { pool } = engine.device;
  const leases = new Map<string, Lease>();
  for (const [name, spec] of plan.parameters) leases.set(name, pool.lease(specBytes(spec), "weight"));
  for (const [name, spec] of plan.gradients) leases.set(gradientName(name), pool.lease(specBytes(spec), "state"));
  using executor = new Executor(engine.device);
  try {
    await executor.hold([plan]);
    return await time(() => executor.run(plan, { lease: (name) => leases.get(name) as Lease }, inputs));
  } finally {
    for (const lease of leases.values()) pool.return(lease);
  }
}
