import type { Device } from "../gpu/device";
import { chosenLaunch, jointLaunch } from "../gpu/variants";
import type { Plan, PlannedLaunch, Target } from "../tape/plan";

/** A dispatch as a device runs it: a planned launch, possibly by a variant or joined with the next launch. */
export interface DeviceLaunch extends PlannedLaunch {
  /** Index of the planned launch whose params it uses. */
  readonly index: number;
}

/** The dispatches of a plan, with the kernels that a device chooses. */
export function deviceLaunches({ launches }: Plan, device: Device): DeviceLaunch[] {
  const result: DeviceLaunch[] = [];
  for (let index = 0; index < launches.length; index++) {
    const planned = launches[index]!;
    const next = launches[index + 1];
    const joint = jointDeviceLaunch(planned, next, device);
    const both = joint ? undefined : absorbing(planned, next);
    const { launch, ...rest } = both ?? planned;
    if (both) index++;
    result.push(joint ? { ...joint, index } : { ...rest, launch: chosenLaunch(launch, device.variants), index });
    if (joint) index++;
  }
  return result;
}

/**
 * One dispatch for a launch and the next one, if the device chooses it and can bind that many buffers. Only software
 * adapters do: on GPUs, a joint dispatch has too few workgroups.
 */
function jointDeviceLaunch(
  planned: PlannedLaunch,
  next: PlannedLaunch | undefined,
  device: Device,
): PlannedLaunch | undefined {
  const launch = device.info.isSoftware ? jointLaunch(planned.launch, next?.launch, device.variants) : undefined;
  if (!launch || !next) return undefined;
  const variables = Object.keys(launch.bindings);
  if (variables.length > device.handle.limits.maxStorageBuffersPerShaderStage) return undefined;
  const bindings = new Map([...next.bindings, ...planned.bindings].map((binding) => [binding.variable, binding]));
  return { ...planned, launch, bindings: variables.flatMap((variable) => bindings.get(variable) ?? []) };
}

/** The next launch with the work of this one, if it can absorb it. */
function absorbing(planned: PlannedLaunch, next: PlannedLaunch | undefined): PlannedLaunch | undefined {
  const absorption = next?.launch.absorbs;
  if (absorption?.kernel !== planned.launch.kernel.name || absorption.entry !== planned.launch.entry) return undefined;
  const bindings = new Map(next!.bindings.map((binding) => [binding.variable, binding]));
  for (const binding of planned.bindings) {
    const variable = absorption.variables[binding.variable]!;
    const other = bindings.get(variable);
    if (other && !bindsSame(binding, other)) return undefined;
    bindings.set(variable, { ...binding, variable });
  }
  const all = [...bindings.values()];
  // What the first launch only reads may have been free for the results of the second.
  if (all.some((one, i) => all.some((other, j) => i < j && isSameTarget(one.target, other.target)))) return undefined;
  return { ...next!, launch: { ...next!.launch, entry: absorption.by }, bindings: all };
}

type Binding = PlannedLaunch["bindings"][number];

function bindsSame(a: Binding, b: Binding): boolean {
  return isSameTarget(a.target, b.target) && a.offset === b.offset && a.bytes === b.bytes;
}

function isSameTarget(a: Target, b: Target): boolean {
  if (a.kind === "buffer") return b.kind === "buffer" && a.index === b.index;
  return b.kind === a.kind && a.name === b.name;
}
