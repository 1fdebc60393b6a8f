import type { Recipe, RecipeOptions } from "./recipe";

/** Regimes of the empirical study: the most training examples, and epochs. */
const REGIMES = { low: [100, 10], medium: [1000, 5], high: [10_000, 1] } as const;
const TASKS = ["agnews", "cola", "e2e", "samsum"] as const;

/** Methods of the study. Its learning rates are not published: these are this library's. */
const METHODS: Readonly<Record<string, RecipeOptions>> = {
  full: { adapter: "full", lr: 1e-4 },
  lora: { adapter: "lora", rank: 2, lr: 1e-3 },
  ia3: { adapter: "ia3", lr: 3e-3 },
  bitfit: { adapter: "bitfit", addBiases: true, lr: 1e-3 },
  prompt: { adapter: "prompt", tokens: 100, lr: 0.3 },
};

/** CoLA's 8,551 training examples are fewer than the most of the high regime. */
const isAll = (task: string, examples: number): boolean => task === "cola" && examples > 8551;

/** The settings of the empirical study of PEFT methods on FLAN-T5-XL. */
export const EMPIRICAL_RECIPES: readonly Recipe[] = TASKS.flatMap((task) =>
  Object.entries(REGIMES).flatMap(([regime, [examples, epochs]]) =>
    Object.entries(METHODS).map(([method, options]): Recipe => ({
      name: `empirical/flan-t5-xl/${task}-${regime}/${method}`,
      source:
        "Empirical Analysis of the Strengths and Weaknesses of PEFT Techniques for LLMs (Pu et al. 2023), section 3",
      model: "google/flan-t5-xl",
      options: {
        ...options,
        task,
        ...(isAll(task, examples) ? {} : { examples }),
        epochs,
        batch: 16,
        accumulate: 4,
        schedule: "linear",
        warmupRatio: 0.06,
        patience: 2,
        generate: task === "e2e" || task === "samsum",
      },
      ours: [
        "learning rates, warm-up, patience and LoRA's alpha are unpublished",
        ...(isAll(task, examples) ? ["CoLA has fewer than 10,000 training examples: all of them"] : []),
      ],
    })),
  ),
);
