import { join } from "safetape/distributed";
import type { JoinOptions } from "safetape/distributed";
import { digestOf, subjectTrainer } from "../../bench/distributed/subject";
import type { Subject } from "../../bench/distributed/subject";
import type { Engine } from "../../src/engine";
import type { StepReport } from "../../src/train/loop/reports";
import type { TrainerOptions } from "../../src/train/options";
import type { Trainer } from "../../src/train/trainer";

/** A device of a run: several in one process each have a trainer and a connection of their own. */
export function device(
  engine: Engine,
  subject: Subject,
  joining: Omit<JoinOptions, "deadline">,
  options: Partial<TrainerOptions> = {},
): Promise<Trainer> {
  const distributed = join({ deadline: 6, ...joining });
  return subjectTrainer(engine, subject, { distributed, warn: () => undefined, ...options });
}

/** Trains to the end, or to a step, and returns the digests of the tensors after each step. */
export async function digestsOf(
  trainer: Trainer,
  until = Infinity,
  see: (report: StepReport) => void = () => undefined,
): Promise<Map<number, string>> {
  const digests = new Map<number, string>();
  for await (const report of trainer.steps()) {
    const { step } = report;
    see(report);
    digests.set(step, await digestOf(trainer));
    if (step >= until) break;
  }
  return digests;
}

/** Lets a device leave its run, and returns its memory. */
export function end(trainer: Trainer): void {
  trainer.dispose();
  trainer.options.model.dispose();
}
