import type { Virtual } from "./emit";

/** A buffer that a plan asks of the pool. */
export interface PlannedBuffer {
  bytes: number;
  /** Holds, at some time, a value that the forward pass keeps for a gradient. */
  readonly saved: boolean;
}

const ALIGNMENT = 16;
const aligned = (bytes: number): number => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;

/**
 * Gives every virtual tensor a buffer such that no two tensors that live at one step share one. Kept values get
 * buffers of exactly their size; scratch takes the tightest free buffer, else grows the largest free scratch buffer
 * (nothing has been allocated yet: growing costs only the difference), else adds one.
 */
export function placeVirtuals(
  virtuals: readonly Virtual[],
  ids: number,
  steps: number,
): { buffers: PlannedBuffer[]; bufferOf: readonly number[]; lastNewAt: number } {
  const buffers: PlannedBuffer[] = [];
  const bufferOf: number[] = Array.from({ length: ids }, () => -1);
  let lastNewAt = 0;
  const free = new Set<number>();
  const starts = bucket(virtuals, steps, (v) => v.first);
  const ends = bucket(virtuals, steps, (v) => v.last);
  for (let step = 0; step < steps; step++) {
    for (const virtual of (starts[step] ?? []).sort((a, b) => b.bytes - a.bytes)) {
      const before = totalBytes(buffers);
      bufferOf[virtual.id] = take(buffers, free, aligned(virtual.bytes), virtual.saved);
      if (totalBytes(buffers) > before) lastNewAt = step;
    }
    for (const virtual of ends[step] ?? []) free.add(bufferOf[virtual.id]!);
  }
  return { buffers, bufferOf, lastNewAt };
}

/** Bytes of all buffers together. */
export const totalBytes = (buffers: readonly PlannedBuffer[]): number =>
  buffers.reduce((sum, buffer) => sum + buffer.bytes, 0);

function bucket(virtuals: readonly Virtual[], steps: number, at: (v: Virtual) => number): Virtual[][] {
  const buckets: Virtual[][] = Array.from({ length: steps }, () => []);
  for (const virtual of virtuals) buckets[at(virtual)]?.push(virtual);
  return buckets;
}

function take(buffers: PlannedBuffer[], free: Set<number>, bytes: number, saved: boolean): number {
  const found = saved ? exactFit(buffers, free, bytes) : bestFit(buffers, free, bytes);
  if (found !== undefined) {
    free.delete(found);
    const buffer = buffers[found]!;
    buffers[found] = { bytes: Math.max(buffer.bytes, bytes), saved: buffer.saved || saved };
    return found;
  }
  buffers.push({ bytes, saved });
  return buffers.length - 1;
}

const bytesOf = (buffers: readonly PlannedBuffer[], index: number): number => buffers[index]!.bytes;

function exactFit(buffers: readonly PlannedBuffer[], free: ReadonlySet<number>, bytes: number): number | undefined {
  const candidates = [...free].filter((i) => bytesOf(buffers, i) === bytes);
  return candidates[0] ?? largest(buffers, free, (i) => bytesOf(buffers, i) < bytes && !buffers[i]?.saved);
}

function bestFit(buffers: readonly PlannedBuffer[], free: ReadonlySet<number>, bytes: number): number | undefined {
  let best: number | undefined;
  for (const i of free) {
    const size = bytesOf(buffers, i);
    if (size >= bytes && (best === undefined || size < bytesOf(buffers, best))) best = i;
  }
  return best ?? largest(buffers, free, (i) => !buffers[i]?.saved);
}

function largest(
  buffers: readonly PlannedBuffer[],
  free: ReadonlySet<number>,
  allowed: (index: number) => boolean,
): number | undefined {
  let best: number | undefined;
  for (const i of free) {
    if (allowed(i) && (best === undefined || bytesOf(buffers, i) > bytesOf(buffers, best))) best = i;
  }
  return best;
}
