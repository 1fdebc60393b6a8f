import type { FreezePolicy } from "./policy";

/** Freezes nothing: plain fine-tuning. Saves no memory beyond what the tape never keeps. */
export function never(): FreezePolicy {
  return { name: "never", isDue: () => false, decide: () => Promise.resolve([]), record: () => ({}) };
}
