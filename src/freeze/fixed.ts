import type { FreezePolicy } from "./policy";

/** Tensors to freeze before a step (counted from 0): those whose name contains one of the strings. */
export interface FixedFreeze {
  readonly beforeStep: number;
  readonly tensors: readonly string[];
}

/** A fixed list of freezes: for reproducing a run, and for tests. Saves what the listed tensors' gradients kept. */
export function fixed(freezes: readonly FixedFreeze[]): FreezePolicy {
  return {
    name: "fixed",
    isDue: ({ step }) => freezes.some(({ beforeStep }) => beforeStep === step),
    decide({ step, live }) {
      const wanted = freezes.filter(({ beforeStep }) => beforeStep === step).flatMap(({ tensors }) => tensors);
      return Promise.resolve([...live.values()].flat().filter((name) => wanted.some((part) => name.includes(part))));
    },
    record: () => ({ freezes }),
    settings: { freezes },
  };
}
