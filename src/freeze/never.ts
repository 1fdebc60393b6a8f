import type { FreezePolicy } from "./policy";

/** Freezes nothing: plain fine-tuning. Saves no memory beyond what the tape never keeps. */
export function never(): FreezePolicy {
  return { kind: "freezing", name: "never", start: () => ({ isDue: () => false, decide: () => Promise.resolve([]) }) };
}
