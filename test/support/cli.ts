import { execFile } from "node:child_process";
import { bundleProgram } from "../../scripts/bundle-program.mjs";
import { parseJson } from "./json";

export interface CliResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Bundles the command-line program if a source has changed, and returns the bundle's path. */
export const cliProgram = (): Promise<string> => bundleProgram("src/cli/main.ts");

/** Runs the command-line program as a user does, in a separate process. @param input of stdin. Default: stdin stays open. */
export async function runCli(args: readonly string[], input?: string): Promise<CliResult> {
  const program = await cliProgram();
  return new Promise((resolve) => {
    const { stdin } = execFile(
      process.execPath,
      // Without source maps, which take a fifth of the time of a command that only refuses its options.
      [program, ...args],
      { maxBuffer: 1 << 26 },
      (error, stdout, stderr) => {
        // Dawn warns about limits of software adapters, and npm about its configuration.
        const lines = stderr.split("\n").filter((line) => !/^(?:Warning: max|npm warn)/.test(line));
        resolve({ code: error ? Number(error.code) : 0, stdout, stderr: lines.join("\n").trim() });
      },
    );
    if (input !== undefined) stdin?.end(input);
  });
}

/** The objects that a program wrote with --json, one in each line. */
export function jsonLines<T>(stdout: string): T[] {
  return stdout
    .trim()
    .split("\n")
    .map((line) => parseJson<T>(line));
}
