import type { Device } from "../gpu/device";
import { chosenLaunch, jointLaunch } from "../gpu/variants";
import type { Plan, PlannedLaunch } from "../tape/plan";

/** A dispatch as a device runs it. */
export interface Chosen extends PlannedLaunch {
  /** The plan's launch whose params it has. */
  readonly index: number;
}

/** The dispatches of a plan, by the kernels that a device chooses. */
export function chosenLaunches({ launches }: Plan, device: Device): Chosen[] {
  const chosen: Chosen[] = [];
  for (let index = 0; index < launches.length; index++) {
    const planned = launches[index]!;
    const joint = chosenJoint(planned, launches[index + 1], device);
    chosen.push({ ...(joint ?? { ...planned, launch: chosenLaunch(planned.launch, device.variants) }), index });
    if (joint) index++;
  }
  return chosen;
}

/** A launch and the next as one, where the device chooses so and can bind as much at once; on GPUs too few groups would run. */
function chosenJoint(
  planned: PlannedLaunch,
  next: PlannedLaunch | undefined,
  device: Device,
): PlannedLaunch | undefined {
  const launch = device.info.isSoftware ? jointLaunch(planned.launch, next?.launch, device.variants) : undefined;
  if (!launch || !next) return undefined;
  const variables = Object.keys(launch.bindings);
  if (variables.length > device.handle.limits.maxStorageBuffersPerShaderStage) return undefined;
  const bound = new Map([...next.bindings, ...planned.bindings].map((binding) => [binding.variable, binding]));
  return { ...planned, launch, bindings: variables.flatMap((variable) => bound.get(variable) ?? []) };
}
