import type { PlannedBuffer } from "./buffers";
import type { Plan } from "./plan";

/**
 * The smallest set of buffers in which all plans can run, one plan at a time: sorted by size, the i-th buffer is as large as
 * the largest i-th buffer of any plan. This is a pure function, so the memory that a trainer's plans share (training at
 * several lengths, evaluation, scoring) is known before anything is allocated.
 */
export function reserve(plans: readonly Pick<Plan, "buffers">[]): PlannedBuffer[] {
  const shared: PlannedBuffer[] = [];
  for (const plan of plans) {
    bySize(plan.buffers).forEach((index, rank) => {
      const { bytes, saved } = plan.buffers[index]!;
      const buffer = shared[rank] ?? { bytes: 0, saved: false };
      shared[rank] = { bytes: Math.max(bytes, buffer.bytes), saved: saved || buffer.saved };
    });
  }
  return shared;
}

/** For each buffer of a plan, the index of the reserved buffer in which it lives. */
export function reservedRanks(plan: Pick<Plan, "buffers">): number[] {
  const rankOf: number[] = [];
  bySize(plan.buffers).forEach((index, rank) => (rankOf[index] = rank));
  return rankOf;
}

/** Indices of buffers, largest first; saved ones first among buffers of one size. */
function bySize(buffers: readonly PlannedBuffer[]): number[] {
  return buffers
    .map((_, index) => index)
    .sort((i, j) => {
      const [a, b] = [buffers[i]!, buffers[j]!];
      return b.bytes - a.bytes || Number(b.saved) - Number(a.saved) || i - j;
    });
}
