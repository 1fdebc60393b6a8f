import type { AdapterInfo } from "../gpu/device";

/**
 * Length of a nap as a share of the time waited so far, and therefore how late the end of the work may be noticed. A
 * software adapter needs the core that would poll, so that longer naps finish sooner there.
 */
const SHARE = 1 / 64;
const SOFTWARE_SHARE = 1 / 8;
/** Longest nap in milliseconds: other callbacks wait that long. */
const LONGEST = 1;
/** Shortest nap in milliseconds that is worth a system call. */
const SHORTEST = 0.05;

/** Never changes: waiting for a change is a sleep. */
const cell = new Int32Array(new SharedArrayBuffer(4));

/** Waits in progress. */
let waits = 0;
/** When the latest of them began, and the share of a nap in it. */
let [start, share] = [0, SHARE];
let isScheduled = false;

/**
 * Waits for work of a GPU with naps. While anything is awaited, the npm package `webgpu` polls the device in every turn of
 * the event loop, without a pause; this thread therefore sleeps for a moment in each turn.
 */
export async function napping<T>(work: Promise<T>, { isSoftware }: Pick<AdapterInfo, "isSoftware">): Promise<T> {
  [start, share] = [performance.now(), isSoftware ? SOFTWARE_SHARE : SHARE];
  waits++;
  if (!isScheduled) setImmediate(nap);
  isScheduled = true;
  try {
    return await work;
  } finally {
    waits--;
  }
}

function nap(): void {
  isScheduled = waits > 0;
  if (!isScheduled) return;
  const milliseconds = Math.min(LONGEST, share * (performance.now() - start));
  if (milliseconds >= SHORTEST) Atomics.wait(cell, 0, 0, milliseconds);
  setImmediate(nap);
}
