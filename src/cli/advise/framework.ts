import type { AdapterChoice } from "../../adapter/make";
import { REGIMES } from "../study/regimes";

/** Where the advice comes from. */
export const SOURCE = "Pu et al. 2023, an empirical study of PEFT on FLAN-T5-XL (arXiv 2304.14999)";

/** The methods of that study, with its settings. */
export const METHODS = {
  "full tuning": { kind: "full" },
  LoRA: { kind: "lora", rank: 2 },
  "(IA)3": { kind: "ia3" },
  BitFit: { kind: "bitfit", addBiases: true },
  "prompt tuning": { kind: "prompt", tokens: 100 },
  "LoRA, later half": { kind: "lora", rank: 2, layers: "later" },
  "(IA)3, later half": { kind: "ia3", layers: "later" },
} as const satisfies Readonly<Record<string, AdapterChoice>>;

export type MethodName = keyof typeof METHODS;

/** How much training data there are, by the regimes of the study. */
export type Amount = "little" | "medium" | "much";

export const amountOf = (examples: number): Amount =>
  examples <= REGIMES.low.examples ? "little" : examples <= REGIMES.medium.examples ? "medium" : "much";

/** What matters most to whoever trains. */
export const NEEDS = ["score", "time", "memory", "parameters"] as const;
export type Need = (typeof NEEDS)[number];

/** What the study recommends for a need. */
export interface Advice {
  readonly need: Need;
  /** The first one is meant where there is no other reason to choose. */
  readonly methods: readonly MethodName[];
  /** Why, in a sentence. */
  readonly reason: string;
}

const PEFT = ["(IA)3", "LoRA", "BitFit"] as const;

/** The study's decision framework for an amount of data. */
export function adviceFor(amount: Amount): Advice[] {
  const hasMuch = amount === "much";
  return [
    {
      need: "score",
      methods: hasMuch ? ["full tuning"] : PEFT,
      reason: hasMuch
        ? "With much data full tuning scores best."
        : `With ${amount === "little" ? "little" : "a medium amount of"} data adapters of few parameters score best.`,
    },
    {
      need: "time",
      methods: hasMuch ? PEFT : ["full tuning"],
      reason: hasMuch
        ? "With much data adapters reach their best validation loss sooner."
        : "With few examples full tuning reaches its best validation loss in fewer epochs; adapters converge slowly there.",
    },
    {
      need: "memory",
      methods: amount === "little" ? ["BitFit", "(IA)3"] : ["(IA)3"],
      reason: "Of the methods with the fewest trainable parameters they score best with this amount of data.",
    },
    {
      need: "parameters",
      methods: ["(IA)3, later half", "LoRA, later half"],
      reason:
        "The later half of the layers loses little, the earlier half most; adapters of attention are worth keeping, above all in (IA)3.",
    },
  ];
}

/** What else the study found for an amount of data. */
export function notesFor(amount: Amount): string[] {
  const prompt = "Prompt tuning is last in nearly every comparison of the study.";
  return amount === "little" ? [prompt, "With very few examples, try a prompt without any training first."] : [prompt];
}
