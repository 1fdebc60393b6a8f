import type { Device } from "../gpu/device";
import type { VariantLaunch } from "../gpu/tuning/checker";
import type { BoundLaunch } from "../gpu/tuning/scratch";
import { appliedVariant, chosenLaunch } from "../gpu/variants";
import type { AbsorbedLaunch, Absorption } from "../op/launch";
import type { Plan, PlannedLaunch, Target } from "../tape/plan";

/** A dispatch as a device runs it: a planned launch, possibly by a variant or with the work of its neighbours. */
export interface DeviceLaunch extends PlannedLaunch {
  /** Index of the planned launch whose params it uses. */
  readonly index: number;
  /** Planned launches whose work it does. */
  readonly count: number;
  /** Uniform variable -> index of the planned launch whose params it holds, for what it absorbs. */
  readonly absorbed: ReadonlyMap<string, number>;
  /** What does the same by portable kernels, where those have no such entry. */
  readonly parts?: readonly [BoundLaunch, ...BoundLaunch[]];
}

/** What the dispatches of a plan depend on; the part of a device that is read here. */
export type LaunchingDevice = Pick<Device, "variants"> & {
  readonly handle: { readonly limits: Pick<GPUSupportedLimits, "maxStorageBuffersPerShaderStage"> };
};

/** The dispatches of a plan, with the kernels that a device chooses. */
export function deviceLaunches({ launches }: Pick<Plan, "launches">, device: LaunchingDevice): DeviceLaunch[] {
  const result: DeviceLaunch[] = [];
  for (let index = 0; index < launches.length; index++) {
    const { launch: joined, count } = joinedLaunch(launches, index, device) ?? { count: 1 };
    const { launch, ...rest } = launches[index]!;
    const alone = { ...rest, index, count, absorbed: new Map<string, number>() };
    result.push(joined ?? { ...alone, launch: chosenLaunch(launch, device.variants) });
    index += count - 1;
  }
  return result;
}

/** One dispatch for the launches from `start` on, of which one can absorb the others, and their number. */
function joinedLaunch(
  launches: readonly PlannedLaunch[],
  start: number,
  device: LaunchingDevice,
): { readonly launch: DeviceLaunch; readonly count: number } | undefined {
  // The longest sequence of launches before another one comes first.
  for (const index of [start + 2, start + 1, start]) {
    for (const absorption of launches[index]?.launch.absorbs ?? []) {
      const { before = [], after = [] } = absorption;
      if (before.length !== index - start) continue;
      const launch = withNeighbours(launches, index, absorption, device);
      if (launch) return { launch, count: before.length + 1 + after.length };
    }
  }
  return undefined;
}

/** A launch with the work of its neighbours, if they are those of the absorption and all can be bound at once. */
function withNeighbours(
  launches: readonly PlannedLaunch[],
  index: number,
  { before = [], after = [], by, variants }: Absorption,
  device: LaunchingDevice,
): DeviceLaunch | undefined {
  const planned = launches[index]!;
  const bindings = new Map(planned.bindings.map((binding) => [binding.variable, binding]));
  const params = new Map<string, number>();
  const places = [...before.map((_, i) => index - before.length + i), ...after.map((_, i) => index + 1 + i)];
  for (const [i, absorbed] of [...before, ...after].entries()) {
    const other = launches[places[i]!];
    if (!other || !isMeant(absorbed, other, planned)) return undefined;
    for (const binding of other.bindings) {
      const variable = absorbed.variables[binding.variable]!;
      const bound = bindings.get(variable);
      if (bound && !bindsSame(binding, bound)) return undefined;
      bindings.set(variable, { ...binding, variable });
    }
    if (absorbed.params !== undefined) params.set(absorbed.params, places[i]!);
  }
  const all = [...bindings.values()];
  if (all.length > device.handle.limits.maxStorageBuffersPerShaderStage) return undefined;
  // What a launch only reads may have been free for the results of a later one.
  if (all.some((one, i) => all.some((other, j) => i < j && isSameTarget(one.target, other.target)))) return undefined;
  const launch = { ...planned.launch, entry: by, variants: variants ?? planned.launch.variants ?? [] };
  if (variants && !device.variants(launch)) return undefined;
  const dispatch = {
    ...planned,
    launch: chosenLaunch(launch, device.variants),
    bindings: all,
    flops: [index, ...places].reduce((sum, place) => sum + launches[place]!.flops, 0),
    index,
    count: 1 + places.length,
    absorbed: params,
  };
  if (!variants) return dispatch;
  const partsOf = (all: readonly AbsorbedLaunch[], from: number): BoundLaunch[] =>
    all.map(({ variables }, i) => renamed(launches[places[from + i]!]!, variables));
  const [first = planned, ...rest] = [...partsOf(before, 0), planned, ...partsOf(after, before.length)];
  return { ...dispatch, parts: [first, ...rest] };
}

/** A launch on the buffers of the one that absorbs it. */
const renamed = ({ launch, bindings }: PlannedLaunch, variables: AbsorbedLaunch["variables"]): BoundLaunch => ({
  launch,
  bindings: bindings.map(({ variable, bytes }) => ({ variable, bytes, buffer: variables[variable]! })),
});

/** The dispatches of a plan that run by variants, and what does the same by portable kernels. */
export function variantLaunches({ launches }: Plan, device: LaunchingDevice): VariantLaunch[] {
  const dispatches = deviceLaunches({ launches }, device).filter(({ launch }) => appliedVariant(launch));
  return dispatches.map(({ launch, bindings, index, absorbed, parts }) => {
    const absorbedLaunches = new Map([...absorbed].map(([variable, at]) => [variable, launches[at]!.launch]));
    const run = { launch, bindings, absorbed: absorbedLaunches };
    const portable = { ...launches[index]!.launch, entry: launch.entry };
    return { ...run, portable: parts ?? [{ ...run, launch: portable }] };
  });
}

/** Whether a neighbour of a launch is the one that it can absorb. */
function isMeant(
  { kernel, entry, isOfSameNode = false }: AbsorbedLaunch,
  { launch, node }: PlannedLaunch,
  absorbing: PlannedLaunch,
): boolean {
  return launch.kernel.name === kernel && launch.entry === entry && (!isOfSameNode || node === absorbing.node);
}

type Binding = PlannedLaunch["bindings"][number];

function bindsSame(a: Binding, b: Binding): boolean {
  return isSameTarget(a.target, b.target) && a.offset === b.offset && a.bytes === b.bytes;
}

function isSameTarget(a: Target, b: Target): boolean {
  if (a.kind === "buffer") return b.kind === "buffer" && a.index === b.index;
  return b.kind === a.kind && a.name === b.name;
}
