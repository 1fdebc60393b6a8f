import type { SeeLogits } from "../train/evaluate";

/** Metrics of rewards, as TRL names them. */
export interface RewardMetrics {
  /** Share of pairs whose chosen answer has the higher reward. */
  readonly "rewards/accuracies": number;
  /** Mean reward of the chosen answers, of the rejected ones, and of the difference. */
  readonly "rewards/margins": number;
  readonly "rewards/chosen": number;
  readonly "rewards/rejected": number;
}

/** Collects the rewards of an evaluation: pass `see` to `Trainer.evaluate`, then call `metrics`. */
export function rewardScores(): { readonly see: SeeLogits; readonly metrics: () => RewardMetrics } {
  let [count, won, chosenSum, rejectedSum] = [0, 0, 0, 0];
  return {
    see({ rows }, rewards) {
      for (let row = 0; row < rows; row += 2) {
        const [chosen, rejected] = [rewards[row]!, rewards[row + 1]!];
        count++;
        if (chosen > rejected) won++;
        chosenSum += chosen;
        rejectedSum += rejected;
      }
    },
    metrics: () => ({
      "rewards/accuracies": won / count,
      "rewards/margins": (chosenSum - rejectedSum) / count,
      "rewards/chosen": chosenSum / count,
      "rewards/rejected": rejectedSum / count,
    }),
  };
}
