import * as v from "valibot";
import { elements } from "../../base/shape";
import type { Batch } from "../../data/batch";
import type { FreezePolicy, FreezePolicyState } from "../../freeze/policy";
import { checkSchema } from "../../io/json";
import type { Plan } from "../../tape/plan";
import { comparisonPlans } from "../plans/comparison-trace";
import type { LayerSums } from "../plans/comparison-trace";
import type { Share, WorldMember } from "../world";
import { freezeContext } from "./context";
import type { FreezeContextParts, PolicyScores } from "./context";
import { probeSums } from "./layer-importance";

const DECISION = v.strictObject({
  tensors: v.array(v.string()),
  scores: v.nullable(
    v.strictObject({ kind: v.picklist(["importance", "sensitivity"]), values: v.record(v.string(), v.number()) }),
  ),
  policy: v.unknown(),
});

/**
 * What a policy decides to freeze, by its names.
 * @param world the devices that train the run, where these are several.
 */
export function decide(
  world: WorldMember | undefined,
  active: ActiveFreezing,
  parts: FreezeContextParts,
): Promise<readonly string[]> {
  return world ? decideTogether(world, active, parts) : active.state.decide(freezeContext(parts));
}

interface ActiveFreezing {
  readonly policy: FreezePolicy;
  readonly state: FreezePolicyState;
}

/**
 * A policy's decision in a run of several devices. Each computes the CKA sums of some batches of the probe; the leader joins
 * them in the probe's order, which gives the scores of one device, and consults the policy. All get its choice and its state.
 * @returns names of the tensors to freeze.
 */
async function decideTogether(
  world: WorldMember,
  { policy, state }: ActiveFreezing,
  parts: FreezeContextParts,
): Promise<readonly string[]> {
  const { onScores, probe } = parts;
  const probing = probeWork(policy, parts);
  const result = await world.round({
    sizeOf: (share) => ({ exact: probing?.count(share) ?? 0, values: 0 }),
    compute: probing?.compute,
    async join(all) {
      let scores: PolicyScores | null = null;
      const sums = probing?.sumsOf(all.map(({ exact }) => exact));
      const context = freezeContext({
        ...parts,
        onScores: (given) => void (scores = given),
        probeSums: sums && { center: probing!.center, sums: probe.map((batch) => sums.get(batch)!) },
      });
      const tensors = [...(await state.decide(context))];
      return { ...nothing(), record: { tensors, scores, policy: state.save?.() ?? null } };
    },
  });
  const { tensors, scores, policy: saved } = checkSchema(DECISION, result.record, "the leader's decision");
  if (scores) onScores?.(scores);
  if (saved !== null) state.restore?.(saved);
  return tensors;
}

const nothing = () => ({ exact: new Float32Array(), values: new Float32Array() });

/** What devices compute of a probe; undefined for a policy that reads no importance. */
function probeWork({ settings = {} }: FreezePolicy, parts: FreezeContextParts) {
  const { loaded, adapter, probe, reference, merging } = parts;
  if (!reference) return undefined;
  const center = settings["center"] !== false;
  const { limits } = loaded.engine.device;
  const plans = comparisonPlans(loaded, adapter, probe, limits, { center, reference });
  /** Each rank has every so-many-th batch. */
  const batchesOf = ({ rank, count }: Pick<Share, "rank" | "count">): Batch[] =>
    probe.filter((_, i) => i % count === rank);
  return {
    center,
    count: (share: Share): number => batchesOf(share).reduce((sum, batch) => sum + numbersOf(plans.get(batch)!), 0),
    compute: async (share: Share) => {
      const compute = () => probeSums(parts, center, batchesOf(share), plans);
      const sums = await (merging ? merging.unmerged(compute) : compute());
      return { ...nothing(), exact: pack(sums) };
    },
    /** The sums of every batch, from those that each rank packed. */
    sumsOf: (packed: readonly Float32Array[]): ReadonlyMap<Batch, readonly LayerSums[]> =>
      new Map(
        packed.flatMap((numbers, rank) => {
          const batches = batchesOf({ rank, count: packed.length });
          let rest = numbers;
          return batches.map((batch): [Batch, LayerSums[]] => {
            const sums = sizesOf(plans.get(batch)!).map((size) => {
              const layer = { rows: rest[0]!, sums: rest.subarray(1, 1 + size) };
              rest = rest.subarray(1 + size);
              return layer;
            });
            return [batch, sums];
          });
        }),
      ),
  };
}

/** Number of CKA sums of each layer. The outputs of a comparison plan are in the order of the layers. */
const sizesOf = ({ outputs }: Plan): number[] => [...outputs.values()].map(({ spec }) => elements(spec.shape));

/** Numbers that a batch's sums are packed as: those of each layer behind the number of its rows. */
const numbersOf = (plan: Plan): number => sizesOf(plan).reduce((sum, size) => sum + 1 + size, 0);

const pack = (batches: readonly (readonly LayerSums[])[]): Float32Array =>
  Float32Array.from(batches.flatMap((layers) => layers.flatMap(({ rows, sums }) => [rows, ...sums])));
