import * as v from "valibot";
import { DataError } from "../base/errors";

const COUNT = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const PLACE = v.object({ epoch: COUNT, position: COUNT, samples: COUNT, size: COUNT, seed: v.number() });

/** Where an iteration over samples is. Plain JSON. */
export type BatchState = Readonly<v.InferOutput<typeof PLACE>>;

/** The epoch, and the batches of it that were handed out. */
export type Place = Pick<BatchState, "epoch" | "position">;

/**
 * The place that was saved, for an iteration of `perEpoch` batches that now says `own` of itself.
 * @throws DataError for what is no such place, or another number of samples, batch size or seed.
 */
export function checkedPlace(saved: unknown, own: BatchState, perEpoch: number): Place {
  const result = v.safeParse(PLACE, saved);
  if (!result.success) {
    const told = saved as Partial<BatchState> | null;
    throw new DataError(
      `epoch ${String(told?.epoch)}, batch ${String(told?.position)} is no place in epochs of ${perEpoch} batches`,
      "resume from another checkpoint",
    );
  }
  const state = result.output;
  const changed = (["samples", "size", "seed"] as const).find((key) => state[key] !== own[key]);
  if (changed !== undefined) {
    throw new DataError(
      `cannot resume with ${changed} ${own[changed]}: it was ${state[changed]}`,
      "resume with the data, batch size and seed that the run began with",
    );
  }
  if (state.position < perEpoch) return { epoch: state.epoch, position: state.position };
  throw new DataError(
    `epoch ${state.epoch}, batch ${state.position} is no place in epochs of ${perEpoch} batches`,
    "resume from another checkpoint",
  );
}
