import { UsageError } from "./options";
import type { Print, RawOptions } from "./options";

type Analysis = (raw: RawOptions, print: Print) => Promise<void>;

/** The analyses by name. Each is loaded only when it runs, because the library that draws figures is large. */
const ANALYSES: Readonly<Record<string, () => Promise<Analysis>>> = {
  similarity: async () => (await import("./analysis/similarity")).similarityCommand,
  contribution: async () => (await import("./analysis/contribution")).contributionCommand,
  sensitivity: async () => (await import("./analysis/sensitivity")).sensitivityCommand,
  landscape: async () => (await import("./analysis/landscape")).landscapeCommand,
  memory: async () => (await import("./analysis/memory")).memoryCommand,
  hessian: async () => (await import("./analysis/hessian")).hessianCommand,
};

/** Names of the analyses of `safetape analyze`. */
export const ANALYSIS_NAMES: readonly string[] = Object.keys(ANALYSES);

/** `safetape analyze NAME`. */
export async function analyzeCommand(name: string | undefined, raw: RawOptions, print: Print): Promise<void> {
  const load = name !== undefined && Object.hasOwn(ANALYSES, name) ? ANALYSES[name] : undefined;
  if (load) return (await load())(raw, print);
  throw new UsageError(
    name === undefined ? "No analysis is named." : `There is no analysis ${name}.`,
    `Analyses: ${ANALYSIS_NAMES.join(", ")}.`,
  );
}
