import type { TrainerOptions } from "../options";

/** Writes a warning to the trainer's `warn` option, or to the console. */
export function warnBy({ warn }: Pick<TrainerOptions, "warn">): (message: string) => void {
  // oxlint-disable-next-line no-console -- the default where the program has given no other place
  return warn ?? ((message) => console.warn(message));
}
