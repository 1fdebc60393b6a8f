import type { Device } from "../gpu/device";
import type { Lease } from "../gpu/pool";
import { Executor } from "../run/executor";
import type { Inputs } from "../run/executor";
import { gradientName } from "../run/store";
import { specBytes } from "../tape/emit";
import type { Plan } from "../tape/plan";

/** Durations of repeated runs, in milliseconds. */
export interface Timing {
  readonly median: number;
  readonly fastest: number;
  readonly slowest: number;
}

/**
 * Times a run at least 3 and at most `maxRounds` times within `budgetMs`, after one round of warm-up.
 * @param run may return its own milliseconds, in place of those by the host's clock.
 */
export async function time(run: () => Promise<unknown>, budgetMs = 1000, maxRounds = 15): Promise<Timing> {
  await run();
  const times: number[] = [];
  const end = performance.now() + budgetMs;
  while (times.length < 3 || (times.length < maxRounds && performance.now() < end)) {
    const start = performance.now();
    const own = await run();
    times.push(typeof own === "number" ? own : performance.now() - start);
  }
  times.sort((a, b) => a - b);
  return {
    median: times[Math.floor(times.length / 2)]!,
    fastest: times[0]!,
    slowest: times.at(-1)!,
  };
}

/**
 * Makes a plan ready to run, with buffers for its gradients.
 * @param values data of parameters, by name. The others are zeros.
 */
export async function preparePlan(device: Device, plan: Plan, inputs: Inputs, values: Inputs = {}) {
  const { pool } = device;
  const leases = new Map<string, Lease>();
  const executor = new Executor(device);
  const dispose = (): void => {
    executor.dispose();
    for (const lease of leases.values()) pool.return(lease);
  };
  try {
    await pool.checked("the tensors of a measurement", () => {
      for (const [name, spec] of plan.parameters) leases.set(name, pool.lease(specBytes(spec), "weight"));
      for (const [name, spec] of plan.gradients) leases.set(gradientName(name), pool.lease(specBytes(spec), "state"));
    });
    for (const name of plan.parameters.keys()) {
      const data = values[name];
      if (data) device.upload(leases.get(name)!.buffer, 0, data);
    }
    await executor.hold([plan]);
  } catch (error) {
    dispose();
    throw error;
  }
  const run = () => executor.run(plan, { lease: (name) => leases.get(name)! }, inputs);
  return {
    run,
    /** Runs it with a clock on every dispatch. */
    trace: async () => (await executor.trace(run)).trace,
    [Symbol.dispose]: dispose,
  };
}
