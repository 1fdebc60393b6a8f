import { UsageError } from "../options";
import type { Print, RawOptions } from "../options";
import { checkCommand } from "./check";
import { kernelCommand } from "./kernel";
import { showCommand } from "./show";
import { tuneCommand } from "./tune";

/**
 * `safetape doctor`.
 * @param constants words after the options: NAME=VALUE for constants of `--kernel`.
 */
export async function doctorCommand(constants: readonly string[], raw: RawOptions, print: Print): Promise<void> {
  const [word] = constants;
  if (word !== undefined && raw["kernel"] === undefined) {
    throw new UsageError(
      `${word} is no option.`,
      "NAME=VALUE belongs to --kernel NAME; safetape doctor --help lists options.",
    );
  }
  if (raw["kernel"] !== undefined) kernelCommand(constants, raw, print);
  else if (raw["check"]) await checkCommand(raw, print);
  else if (raw["tune"]) await tuneCommand(raw, print);
  else await showCommand(raw, print);
}
