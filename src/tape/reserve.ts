import type { PlannedBuffer } from "./place";
import type { Plan } from "./plan";

/**
 * The smallest set of buffers that every one of the plans can run in, one plan at a time: sorted by size, the i-th
 * buffer is as large as the largest i-th buffer of any plan. Pure, so a trainer's plans (training at several lengths,
 * evaluation, scoring) have a total that is known before anything is allocated.
 */
export function reserve(plans: readonly Pick<Plan, "buffers">[]): PlannedBuffer[] {
  const shared: PlannedBuffer[] = [];
  for (const plan of plans) {
    bySize(plan.buffers).forEach((index, rank) => {
      const { bytes, saved } = plan.buffers[index]!;
      const known = shared[rank];
      shared[rank] = { bytes: Math.max(bytes, known?.bytes ?? 0), saved: saved || (known?.saved ?? false) };
    });
  }
  return shared;
}

/** The i-th entry is the reserved buffer in which the plan's i-th buffer lives. */
export function fitInto(plan: Pick<Plan, "buffers">): number[] {
  const rankOf: number[] = [];
  bySize(plan.buffers).forEach((index, rank) => (rankOf[index] = rank));
  return rankOf;
}

/** Indices of the buffers, largest first; among equals the kept ones first. */
function bySize(buffers: readonly PlannedBuffer[]): number[] {
  return buffers
    .map((_, index) => index)
    .sort((i, j) => {
      const [a, b] = [buffers[i]!, buffers[j]!];
      return b.bytes - a.bytes || Number(b.saved) - Number(a.saved) || i - j;
    });
}
