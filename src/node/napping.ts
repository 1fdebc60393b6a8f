import type { AdapterInfo } from "../gpu/device";

/**
 * A nap as a share of the time waited so far, which is how late the end may be noticed. A software adapter computes on
 * the core that would be asking, so that longer naps there end sooner.
 */
const SHARE = 1 / 64;
const SOFTWARE_SHARE = 1 / 8;
/** The longest nap, which is how long other callbacks may wait, and the shortest that is worth a call; milliseconds. */
const LONGEST = 1;
const SHORTEST = 0.05;

/** Nobody changes it: a wait for that is a sleep. */
const cell = new Int32Array(new SharedArrayBuffer(4));

/** Waits that are under way, the last one's start, and how long a nap may be. */
let waits = 0;
let start = 0;
let share = SHARE;
let isTurning = false;

/**
 * Waits for work of a GPU, napping. npm `webgpu` asks the device in every turn of the event loop, without a pause, for as
 * long as anything is awaited; this thread therefore sleeps for a moment in each turn.
 */
export async function napping<T>(work: Promise<T>, { isSoftware }: Pick<AdapterInfo, "isSoftware">): Promise<T> {
  [start, share] = [performance.now(), isSoftware ? SOFTWARE_SHARE : SHARE];
  waits++;
  if (!isTurning) setImmediate(turn);
  isTurning = true;
  try {
    return await work;
  } finally {
    waits--;
  }
}

function turn(): void {
  isTurning = waits > 0;
  if (!isTurning) return;
  const nap = Math.min(LONGEST, share * (performance.now() - start));
  if (nap >= SHORTEST) Atomics.wait(cell, 0, 0, nap);
  setImmediate(turn);
}
