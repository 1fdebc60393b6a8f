import type { Device } from "../gpu/device";
import { chosenLaunch, jointLaunch } from "../gpu/variants";
import type { Plan, PlannedLaunch } from "../tape/plan";

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
    const joint = jointDeviceLaunch(planned, launches[index + 1], device);
    result.push({ ...(joint ?? { ...planned, launch: chosenLaunch(planned.launch, device.variants) }), index });
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
