import type { FreezePolicy } from "./policy";

/** Tensors to freeze before a step, counted from 0: those whose name contains one of the strings. */
export interface FixedFreeze {
  readonly beforeStep: number;
  readonly tensors: readonly string[];
}

/** A fixed list of freezes: for reproducing a run, and for tests. Saves what the gradients of the listed tensors keep. */
export function fixed(freezes: readonly FixedFreeze[]): FreezePolicy {
  return {
    kind: "freezing",
    name: "fixed",
    settings: { freezes },
    start: () => ({
      isDue: ({ step }) => freezes.some(({ beforeStep }) => beforeStep === step),
      decide({ step, live }) {
        const parts = freezes.filter(({ beforeStep }) => beforeStep === step).flatMap(({ tensors }) => tensors);
        return Promise.resolve([...live.values()].flat().filter((name) => parts.some((part) => name.includes(part))));
      },
    }),
  };
}
