import * as v from "valibot";
import { DataError } from "../base/errors";

const COUNT = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const STATE = v.object({ epoch: COUNT, position: COUNT, samples: COUNT, size: COUNT, seed: v.number() });

/** Position of an iteration over batches, and what the data must have in common to resume there. Plain JSON. */
export type BatchState = Readonly<v.InferOutput<typeof STATE>>;

/** Epoch of the next batch, and the number of batches of that epoch before it. */
export type BatchPosition = Pick<BatchState, "epoch" | "position">;

/**
 * The position in a saved state.
 * @param current state of the iteration that is to resume.
 * @param perEpoch its batches per epoch.
 * @throws DataError for anything but such a state, and for another number of samples, batch size or seed.
 */
export function resumedPosition(saved: unknown, current: BatchState, perEpoch: number): BatchPosition {
  const { success, output: state } = v.safeParse(STATE, saved);
  if (!success) {
    // The message shows whatever was saved under these keys.
    const { epoch, position } = (saved ?? {}) as Partial<Record<keyof BatchState, unknown>>;
    throw noSuchPosition(epoch, position, perEpoch);
  }
  const changed = (["samples", "size", "seed"] as const).find((key) => state[key] !== current[key]);
  if (changed !== undefined) {
    throw new DataError(
      `cannot resume with ${changed} ${current[changed]}: it was ${state[changed]}`,
      "resume with the data, batch size and seed with which the run began",
    );
  }
  if (state.position >= perEpoch) throw noSuchPosition(state.epoch, state.position, perEpoch);
  return { epoch: state.epoch, position: state.position };
}

const noSuchPosition = (epoch: unknown, position: unknown, perEpoch: number): DataError =>
  new DataError(
    `there is no batch ${String(position)} of epoch ${String(epoch)} in epochs of ${perEpoch} batches`,
    "resume from another checkpoint",
  );
