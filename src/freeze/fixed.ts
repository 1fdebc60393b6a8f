import type { FreezePolicy } from "./policy";

/** Tensors to freeze before a step, counted from 0: those whose name contains one of the strings. */
export interface FixedFreeze {
  readonly beforeStep: number;
  readonly tensors: readonly string[];
}

/** A fixed list of freezes: for reproducing a run, and for tests. Saves what the gradients of the listed tensors keep. */
export function fixed(freezes: readonly FixedFreeze[]): FreezePolicy {
  const isNamed = (name: string, among: readonly FixedFreeze[]): boolean =>
    among.some(({ tensors }) => tensors.some((part) => name.includes(part)));
  return {
    kind: "freezing",
    name: "fixed",
    settings: { freezes },
    // An empty list is a choice: the run freezes nothing.
    mayFreeze: ({ name }) => freezes.length === 0 || isNamed(name, freezes),
    start: () => ({
      isDue: ({ step }) => freezes.some(({ beforeStep }) => beforeStep === step),
      decide({ step, live }) {
        const due = freezes.filter(({ beforeStep }) => beforeStep === step);
        return Promise.resolve([...live.values()].flat().filter((name) => isNamed(name, due)));
      },
    }),
  };
}
