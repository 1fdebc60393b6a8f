import type { Device } from "../gpu/device";
import { appliedVariant } from "../gpu/variants";
import type { Attributes, OpCase, TestedOp } from "../op/declaration";
import type { Launch } from "../op/launch";
import { deviceLaunches } from "../run/device-launches";
import type { LaunchingDevice } from "../run/device-launches";
import { planCase } from "./case-plan";
import type { VariantWalk } from "./variant-walk";

/** An op and one of its cases. */
export type CheckedCase = readonly [op: TestedOp, test: OpCase<Attributes>];

/** What decides the launches of a case. */
type PlanningDevice = Pick<LaunchingDevice, "handle"> & Pick<Device, "limits">;

/** A case, the pipelines that it needs, with what they cost to compile in relation to each other, and what they show. */
interface Candidate {
  readonly of: CheckedCase;
  readonly costs: ReadonlyMap<string, number>;
  readonly traits: ReadonlySet<string>;
}

/** The cases of ops, but those for benches. */
export const casesOf = (ops: readonly TestedOp[]): CheckedCase[] =>
  ops.flatMap((op) => op.cases.filter(({ bench }) => !bench).map((test) => [op, test] as const));

/**
 * Chooses cases for an adapter that takes seconds to compile an attention or a product, whose invocations hold tiles in registers. The cases
 * together run every entry, forward and in gradients with every value of every constant but sizes of heads, and the variants of the
 * adapter's default choice that `walk` would compare. A case is left out only if it shows none of these anew, and would compile one
 * more attention or product. Each op has at least one case.
 * @returns the cases in the order in which they show most, and those that are left out.
 */
export function chooseCases(
  ops: readonly TestedOp[],
  device: PlanningDevice,
  walk: VariantWalk,
): { readonly chosen: readonly CheckedCase[]; readonly leftOut: readonly CheckedCase[] } {
  const compiled = new Set<string>();
  const shown = new Set<string>();
  const chosen: CheckedCase[] = [];
  const leftOut: CheckedCase[] = [];
  const costOf = ({ costs }: Candidate): number =>
    [...costs].reduce((sum, [pipeline, cost]) => sum + (compiled.has(pipeline) ? 0 : cost), 0);
  const worthOf = (candidate: Candidate): number => {
    const cost = costOf(candidate);
    return cost === 0 ? Infinity : [...candidate.traits].filter((trait) => !shown.has(trait)).length / cost;
  };
  for (const op of ops) {
    let rest = casesOf([op]).map((each) => candidateOf(each, device, walk));
    for (let isFirst = true; rest.length > 0; isFirst = false) {
      const best = rest.reduce((a, b) => {
        const [worthA, worthB] = [worthOf(a), worthOf(b)];
        return worthB > worthA || (worthB === worthA && costOf(b) < costOf(a)) ? b : a;
      });
      if (worthOf(best) === 0 && !isFirst) break;
      chosen.push(best.of);
      for (const pipeline of best.costs.keys()) compiled.add(pipeline);
      for (const trait of best.traits) shown.add(trait);
      rest = rest.filter((candidate) => candidate !== best);
    }
    leftOut.push(...rest.map(({ of }) => of));
  }
  return { chosen, leftOut };
}

function candidateOf(of: CheckedCase, { handle, limits }: PlanningDevice, walk: VariantWalk): Candidate {
  const [op, test] = of;
  const planned = planCase(op, test, limits);
  const costs = new Map<string, number>();
  const traits = new Set<string>();
  const add = (launch: Launch, shows: readonly string[]): void => {
    const { kernel, entry, constants = {} } = launch;
    costs.set(JSON.stringify([kernel.name, entry, constants]), compileCost(launch));
    for (const trait of shows) traits.add(trait);
  };
  for (const { launch } of planned.launches) add(launch, portableTraits(launch));
  for (const { launch } of deviceLaunches(planned, { handle, variants: walk.usual })) {
    const variant = appliedVariant(launch);
    if (variant) add(launch, walk.traits(launch, variant));
  }
  return { of, costs, traits };
}

/** What a kernel costs to compile, in relation to others: one for each vector of a tile's row, nothing without a tile. */
function compileCost({ constants: { HEAD, TILE_N } = {}, shape }: Launch): number {
  return shape ? (HEAD ?? TILE_N ?? 0) / 4 : 0;
}

/** What a portable kernel shows: its entry, and the values of its constants, forward and in gradients. */
function portableTraits({ kernel, entry, constants = {} }: Launch): string[] {
  const direction = entry.startsWith("grad") ? "gradients" : "forward";
  const values = Object.entries(constants).filter(([name]) => name !== "HEAD");
  return [
    `portable ${kernel.name}.${entry}`,
    ...values.map((pair) => `portable ${kernel.name}, ${direction}: ${pair.join("=")}`),
  ];
}
