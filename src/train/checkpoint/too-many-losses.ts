import { DeviceError } from "../../base/errors";
import { directoryAt } from "../../io/directory-like";
import type { TrainerOptions } from "../options";

/**
 * The error of a run that stops after so many losses of its device in a row. Where it has a directory for checkpoints, its last
 * copy is saved there.
 * @param copy step of the last copy in host memory, undefined where there is none, and what writes it.
 */
export async function tooManyLosses(
  { checkpoints = {} }: Pick<TrainerOptions, "checkpoints">,
  losses: number,
  cause: unknown,
  { step, save }: { readonly step: number | undefined; readonly save: () => Promise<string> },
): Promise<DeviceError> {
  const reason = cause instanceof Error ? cause.message.split("\n", 1)[0] : String(cause);
  const fact = `The device was lost ${losses} times in a row without a finished step: ${reason}`;
  if (step === undefined) return new DeviceError(fact, "Begin a new run: there is no copy of this one.", { cause });
  const { directory } = checkpoints;
  if (!directory) {
    const remedy = `trainer.saveCheckpoint(directory) still writes the state after step ${step}; resume from it elsewhere.`;
    return new DeviceError(fact, remedy, { cause });
  }
  const file = await save();
  return new DeviceError(fact, `Resume from ${file} in ${(await directoryAt(directory)).name}.`, { cause });
}
