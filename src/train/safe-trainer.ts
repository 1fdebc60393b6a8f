import { safe } from "../freeze/safe";
import type { SafeOptions } from "../freeze/safe-schedule";
import type { TrainerOptions } from "./options";
import { Trainer } from "./trainer";

export interface SafeTrainerOptions extends Omit<TrainerOptions, "policy"> {
  /** Options of SAFE, including everything that the paper leaves open. */
  readonly safe?: SafeOptions;
}

/** A trainer whose policy is SAFE (Selective Adapter Freezing, arXiv 2412.03587). */
export class SafeTrainer extends Trainer {
  /** A trainer with the policy `safe(options.safe)`. Throws as `Trainer.create`. */
  static override async create({ safe: safeOptions, ...options }: SafeTrainerOptions): Promise<SafeTrainer> {
    return new SafeTrainer(await Trainer.open({ ...options, policy: safe(safeOptions) }));
  }
}
