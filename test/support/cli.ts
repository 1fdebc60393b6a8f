import { execFile } from "node:child_process";
import { parseJson } from "./json";

export interface CliResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Where `scripts/run.mjs` keeps the bundle of the command-line program. */
export const CLI_BUNDLE = "node_modules/.cache/safetape/src-cli-main.js";

/** Runs the command-line program as a user does, in a separate process. `scripts/run.mjs` bundles it when a source has changed. */
export function runCli(args: readonly string[]): Promise<CliResult> {
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      ["scripts/run.mjs", "src/cli/main.ts", ...args],
      { maxBuffer: 1 << 26 },
      (error, stdout, stderr) => {
        // Dawn warns about limits of software adapters, and npm about its configuration.
        const lines = stderr.split("\n").filter((line) => !/^(?:Warning: max|npm warn)/.test(line));
        resolve({ code: error ? Number(error.code) : 0, stdout, stderr: lines.join("\n").trim() });
      },
    );
  });
}

/** The objects that a program wrote with --json, one in each line. */
export function jsonLines<T>(stdout: string): T[] {
  return stdout
    .trim()
    .split("\n")
    .map((line) => parseJson<T>(line));
}
