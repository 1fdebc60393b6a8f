import { safe } from "../freeze/safe";
import type { SafeOptions } from "../freeze/safe-schedule";
import type { TrainerOptions } from "./options";
import { Trainer } from "./trainer";

export interface SafeTrainerOptions extends Omit<TrainerOptions, "policy"> {
  /** SAFE's own options; every one that the paper leaves open is among them. */
  readonly safe?: SafeOptions;
}

/** A Trainer whose policy is SAFE. */
export const SafeTrainer = {
  /** As `Trainer.create`. */
  create({ safe: options, ...rest }: SafeTrainerOptions): Promise<Trainer> {
    return Trainer.create({ ...rest, policy: safe(options) });
  },
};
