import { UsageError } from "./options";
import type { Given } from "./options";

type Command = (given: Given, print: (line: string) => void) => Promise<void>;

/** Loaded when they are asked for: what draws is large. */
const ANALYSES: Readonly<Record<string, () => Promise<Command>>> = {
  similarity: async () => (await import("./analysis/similarity")).similarityCommand,
  contribution: async () => (await import("./analysis/contribution")).contributionCommand,
  landscape: async () => (await import("./analysis/landscape")).landscapeCommand,
  hessian: async () => (await import("./analysis/hessian")).hessianCommand,
};

/** Every analysis that `safetape analyze` knows. */
export const ANALYSIS_NAMES: readonly string[] = Object.keys(ANALYSES);

/** `safetape analyze WHAT`. */
export async function analyzeCommand(
  what: string | undefined,
  given: Given,
  print: (line: string) => void,
): Promise<void> {
  const analyse = what !== undefined && Object.hasOwn(ANALYSES, what) ? ANALYSES[what] : undefined;
  if (analyse) return (await analyse())(given, print);
  throw new UsageError(
    what === undefined ? "No analysis is named." : `There is no analysis ${what}.`,
    `Analyses: ${ANALYSIS_NAMES.join(", ")}.`,
  );
}
