import { GLUE_TASKS } from "../../data/glue-tasks";
import { tableRow } from "./recipe";
import type { Recipe } from "./recipe";

/** Columns of AFLoRA's table 5. */
const TASKS = ["cola", "sst2", "mrpc", "qnli", "stsb", "rte", "mnli", "qqp"] as const;
const EPOCHS = tableRow(TASKS, "20 10 20 10 20 20 10 10");
/** Epochs t_f at the end, in which all matrices are frozen. */
const FINAL_EPOCHS = tableRow(TASKS, "14 7 14 7 14 14 7 7");
const HEAD_RATES = tableRow(TASKS, "4e-2 4e-3 8e-2 4e-3 2e-2 4e-2 4e-3 4e-3");
const RATES = tableRow(TASKS, "1e-2 4e-3 1e-2 1e-3 2e-3 1e-3 1e-3 4e-3");

/** The settings of AFLoRA's table 5. */
export const AFLORA_RECIPES: readonly Recipe[] = TASKS.map((task) => {
  const [epochs, finalEpochs] = [EPOCHS[task]!, FINAL_EPOCHS[task]!];
  const freeze = { policy: "aflora", initialEpochs: 1, finalShare: finalEpochs / epochs, beta1: 0.85, beta2: 0.95 };
  return {
    name: `aflora/deberta-v3-base/${task}/aflora`,
    source: "AFLoRA (Liu et al. 2024, arXiv 2403.13269), table 5",
    model: "microsoft/deberta-v3-base",
    options: {
      task,
      adapter: "aflora",
      rank: 4,
      freeze: JSON.stringify(freeze),
      schedule: "linear",
      weightDecay: 0.1,
      lr: RATES[task]!,
      headLr: HEAD_RATES[task]!,
      batch: 64,
      maxLength: 256,
      epochs,
    },
    ours: [
      `the best epoch is chosen by ${GLUE_TASKS[task].metrics[0]}, and needs --eval-every with the steps of an epoch`,
      "the weight decay is that of the published scripts, on the head too",
    ],
  };
});
