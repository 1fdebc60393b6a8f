import { KernelError } from "../../base/errors";
import type { Launch } from "../../op/launch";
import type { Device } from "../device";
import { chosenLaunch } from "../variants";
import { nameOf } from "./candidates";
import type { Candidate } from "./candidates";
import { Scratch } from "./scratch";
import type { BoundLaunch } from "./scratch";

/** Seconds by candidates' names; Infinity for one that the driver refuses. */
export type Timings = ReadonlyMap<string, number>;

export interface TimingOptions {
  /** When to stop, as performance.now() counts. */
  readonly until: number;
}

/** Rounds in which all candidates take turns: the least of a few is close to what the device can do. */
const ROUNDS = 3;
/** One that took so many times the best one's time is not run again; the usual one always is, lest noise replace it. */
const HOPELESS = 3;
/** A turn repeats a launch until it has taken so long, so that handing over commands weighs little; or so often. */
const TURN_SECONDS = 4e-3;
const MOST_REPEATS = 32;
/** Pipelines made at once: drivers compile on several cores, and the budget is looked at in between. */
const MADE_AT_ONCE = 4;

/** One candidate, ready to run. */
interface Racer {
  readonly name: string;
  readonly run: (repeats: number) => Promise<number>;
  /** Seconds of a run, before rounds begin. */
  readonly estimate: number;
}

/**
 * Times a launch's candidates in turns on scratch buffers, in their order until the time is up; the first is always timed.
 * Candidates that were not reached are missing.
 */
export async function timeCandidates(
  device: Device,
  bound: BoundLaunch,
  wanted: readonly Candidate[],
  { until }: TimingOptions,
): Promise<Timings> {
  const scratch = await device.pool.checked("the buffers of a tuning", () => new Scratch(device, bound));
  try {
    const seconds = new Map<string, number>();
    const isOver = (): boolean => performance.now() > until;
    const racers = await line(device, scratch, bound.launch, wanted, { seconds, isOver });
    for (let round = 0; round < ROUNDS && (round === 0 || !isOver()); round++) {
      for (const [i, { name, run, estimate }] of racers.entries()) {
        const best = Math.min(...seconds.values(), ...racers.map((racer) => racer.estimate));
        const known = Math.min(estimate, seconds.get(name) ?? Infinity);
        if (i > 0 && known > HOPELESS * best) seconds.set(name, known);
        else seconds.set(name, Math.min(await run(repeatsOf(known)), seconds.get(name) ?? Infinity));
      }
    }
    return seconds;
  } finally {
    scratch.dispose();
  }
}

const repeatsOf = (seconds: number): number =>
  Math.max(1, Math.min(MOST_REPEATS, Math.round(TURN_SECONDS / Math.max(seconds, 1e-9))));

/** Makes the candidates' pipelines and runs each twice: a first run may compile or clear memory, so the second counts. */
async function line(
  device: Device,
  scratch: Scratch,
  launch: Launch,
  wanted: readonly Candidate[],
  { seconds, isOver }: { readonly seconds: Map<string, number>; readonly isOver: () => boolean },
): Promise<Racer[]> {
  const racers: Racer[] = [];
  for (let at = 0; at < wanted.length; at += MADE_AT_ONCE) {
    if (at > 0 && isOver()) break;
    const some = wanted.slice(at, at + MADE_AT_ONCE);
    const made = await Promise.all(
      some.map((candidate) =>
        pipelineOf(
          device,
          chosenLaunch(launch, () => candidate),
        ),
      ),
    );
    for (const [i, pipeline] of made.entries()) {
      if (racers.length > 0 && isOver()) return racers;
      const candidate = some[i];
      const name = nameOf(candidate);
      if (pipeline)
        racers.push(
          await ready(
            name,
            runner(
              device,
              scratch,
              chosenLaunch(launch, () => candidate),
              pipeline,
            ),
          ),
        );
      else seconds.set(name, Infinity);
    }
  }
  return racers;
}

async function ready(name: string, run: Racer["run"]): Promise<Racer> {
  await run(1);
  return { name, run, estimate: await run(1) };
}

/** What a driver cannot compile is no candidate; where the usual kernel is refused, whoever runs the plan is told. */
async function pipelineOf(device: Device, launch: Launch): Promise<GPUComputePipeline | undefined> {
  try {
    return await device.pipelines.get(launch);
  } catch (error) {
    if (error instanceof KernelError) return undefined;
    throw error;
  }
}

/** Seconds of one of so many runs in a row, by the host's clock: timestamps are missing or coarse on many adapters. */
function runner(device: Device, scratch: Scratch, launch: Launch, pipeline: GPUComputePipeline): Racer["run"] {
  const { handle, limits } = device;
  const group = scratch.bind(launch, pipeline);
  const across = Math.min(launch.workgroups, limits.workgroupsPerDimension);
  return async (repeats) => {
    const encoder = handle.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    for (let i = 0; i < repeats; i++) pass.dispatchWorkgroups(across, Math.ceil(launch.workgroups / across));
    pass.end();
    const commands = encoder.finish();
    const start = performance.now();
    handle.queue.submit([commands]);
    await handle.queue.onSubmittedWorkDone();
    return (performance.now() - start) / 1000 / repeats;
  };
}
