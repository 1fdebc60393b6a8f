import { join } from "node:path";
import { versions } from "../node/index";
import type { RunFacts, RunRecord } from "../node/index";
import { REPORT_FILE } from "../report/record";
import { textOption } from "./options";
import type { Given } from "./options";
import type { Emit } from "./view/events";

/** What the command line knows of a run: its title, how to do it again, with what versions. */
export async function runFacts(given: Given, task: string): Promise<RunFacts> {
  const { "--": _rest, ...options } = given;
  const freeze = textOption(given, "freeze", "--freeze", "never");
  const policy = freeze.startsWith("{") ? "a policy" : freeze;
  const title = `${textOption(given, "adapter", "--adapter", "lora")}${policy === "never" ? "" : ` with ${policy}`} on ${task}`;
  return { title, options, command: commandLine(process.argv.slice(2)), versions: await versions() };
}

/** The command as a POSIX shell takes it. */
export function commandLine(args: readonly string[]): string {
  return ["safetape", ...args].map((arg) => (/^[\w@%+=:,./-]+$/.test(arg) ? arg : quoted(arg))).join(" ");
}

const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

/** The last word on a run: an event for machines, and a line for people. */
export function endOfRun(
  { metrics, peakBytes, seconds }: RunRecord,
  out: string,
  emit: Emit,
  print: ((line: string) => void) | undefined,
): void {
  const report = join(out, REPORT_FILE);
  emit({ type: "end", metrics, peakBytes, seconds, out, report });
  const told = Object.entries(metrics).map(([name, value]) => `${name} ${value.toFixed(4)}`);
  print?.(`${told.join("  ")}  saved in ${out}, report in ${report}`);
}
