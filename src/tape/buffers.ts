import type { VirtualTensor } from "./emit";

/** A buffer that a plan needs. */
export interface PlannedBuffer {
  bytes: number;
  /** Whether it holds, at some time, a value that the forward pass keeps for a gradient. */
  readonly saved: boolean;
}

/** Buffers of a plan, and which virtual tensor lives in which. */
export interface BufferAssignment {
  readonly buffers: readonly PlannedBuffer[];
  /** Virtual id -> index of its buffer; -1 for a tensor that needs none. */
  readonly bufferOf: readonly number[];
  /** The launch at which the buffers reach their final size together. */
  readonly peakLaunch: number;
}

const ALIGNMENT = 16;
const aligned = (bytes: number): number => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;

/**
 * Assigns a buffer to every virtual tensor so that no two tensors that live at the same launch share one. Saved values get
 * buffers of exactly their size. Scratch takes the tightest free buffer; else it grows the largest free scratch buffer
 * (nothing is allocated yet, so growing costs only the difference); else it gets a new one.
 * @param ids the number of virtual ids, of which `virtuals` may leave some out.
 */
export function assignBuffers(virtuals: readonly VirtualTensor[], ids: number, launches: number): BufferAssignment {
  const buffers: PlannedBuffer[] = [];
  const bufferOf: number[] = Array.from({ length: ids }, () => -1);
  let peakLaunch = 0;
  const free = new Set<number>();
  const starts = groupByLaunch(virtuals, launches, ({ first }) => first);
  const ends = groupByLaunch(virtuals, launches, ({ last }) => last);
  for (let launch = 0; launch < launches; launch++) {
    for (const virtual of starts[launch]!.sort((a, b) => b.bytes - a.bytes)) {
      const before = totalBytes(buffers);
      bufferOf[virtual.id] = takeBuffer(buffers, free, aligned(virtual.bytes), virtual.saved);
      if (totalBytes(buffers) > before) peakLaunch = launch;
    }
    for (const virtual of ends[launch]!) free.add(bufferOf[virtual.id]!);
  }
  return { buffers, bufferOf, peakLaunch };
}

const totalBytes = (buffers: readonly PlannedBuffer[]): number => buffers.reduce((sum, { bytes }) => sum + bytes, 0);

function groupByLaunch(
  virtuals: readonly VirtualTensor[],
  launches: number,
  launchOf: (virtual: VirtualTensor) => number,
): VirtualTensor[][] {
  const groups: VirtualTensor[][] = Array.from({ length: launches }, () => []);
  for (const virtual of virtuals) groups[launchOf(virtual)]?.push(virtual);
  return groups;
}

/** Index of a free buffer, resized if need be, or of a new one. */
function takeBuffer(buffers: PlannedBuffer[], free: Set<number>, bytes: number, saved: boolean): number {
  const index = saved ? exactFit(buffers, free, bytes) : bestFit(buffers, free, bytes);
  if (index === undefined) return buffers.push({ bytes, saved }) - 1;
  free.delete(index);
  const buffer = buffers[index]!;
  buffers[index] = { bytes: Math.max(buffer.bytes, bytes), saved: buffer.saved || saved };
  return index;
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
  isAllowed: (index: number) => boolean,
): number | undefined {
  let best: number | undefined;
  for (const i of free) {
    if (isAllowed(i) && (best === undefined || bytesOf(buffers, i) > bytesOf(buffers, best))) best = i;
  }
  return best;
}
