import { execFile } from "node:child_process";

export interface CliResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the command-line program as a user does, in a process of its own. Its bundle is made anew each time. */
export function runCli(args: readonly string[]): Promise<CliResult> {
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      ["scripts/run.mjs", "src/cli/main.ts", ...args],
      { maxBuffer: 1 << 26 },
      (error, stdout, stderr) => {
        // Dawn warns about limits of software adapters; that is no word of ours.
        const own = stderr.split("\n").filter((line) => !/^(?:Warning: max|npm warn)/.test(line));
        resolve({ code: error ? Number(error.code) : 0, stdout, stderr: own.join("\n").trim() });
      },
    );
  });
}
