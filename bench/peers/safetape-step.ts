import type { Engine } from "../../src/engine";
import { stepModel, stepRunner, stepTrainer } from "./step";
import type { Runner } from "./workload";

/** The training step by `Trainer`. */
export async function safetapeStep(engine: Engine): Promise<Runner> {
  const model = await stepModel(engine);
  const trainer = await stepTrainer(model);
  const steps = trainer.steps();
  const step = async (): Promise<number> => {
    const { value } = await steps.next();
    if (!value) throw new Error("The run ended early.");
    return value.loss;
  };
  return stepRunner(step, () => {
    trainer.dispose();
    model.dispose();
  });
}
