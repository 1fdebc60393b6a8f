import { safe } from "../freeze/safe";
import type { SafeOptions } from "../freeze/safe-schedule";
import type { TrainerOptions } from "./options";
import { Trainer } from "./trainer";

export interface SafeTrainerOptions extends Omit<TrainerOptions, "policy"> {
  /** Options of SAFE, including everything that the paper leaves open. */
  readonly safe?: SafeOptions;
}

/** Makes trainers whose policy is SAFE. */
export const SafeTrainer = {
  /** A trainer with the policy `safe(options.safe)`. Throws as `Trainer.create`. */
  create({ safe: safeOptions, ...options }: SafeTrainerOptions): Promise<Trainer> {
    return Trainer.create({ ...options, policy: safe(safeOptions) });
  },
};
