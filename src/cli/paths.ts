import { stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { UsageError, flagOf, withPaths } from "./options";
import type { OptionSet, RawOptions, Takes } from "./options";

/** What relative paths begin at. @param file the file that has them; undefined for the command line. */
const beginningOf = (file: string | undefined): string =>
  file === undefined
    ? `Relative paths of the command line begin at the current directory, ${process.cwd()}.`
    : `Relative paths in ${file} begin at its folder, ${resolve(dirname(file))}.`;

/**
 * Checks that there is something at a path to read from.
 * @param name of what has the path, in the error. @param file that has it; undefined for the command line.
 * @throws UsageError with the complete path that was looked for, and what relative ones begin at.
 */
export async function checkPath(
  name: string,
  path: string,
  { kind, file }: { readonly kind: NonNullable<Takes["path"]>; readonly file?: string | undefined },
): Promise<void> {
  // Addresses are the command's concern.
  if (/^[a-z][a-z\d+.-]*:\/\//i.test(path)) return;
  if (path === "") throw new UsageError(`${name} is "".`, "Give a path.");
  const stats = await stat(path).catch(() => undefined);
  if (stats === undefined) throw new UsageError(`${name}: there is no ${kind} ${resolve(path)}.`, beginningOf(file));
  if (kind === "directory" && !stats.isDirectory()) {
    throw new UsageError(`${name}: ${resolve(path)} is a file, and no directory.`, "Give a directory.");
  }
}

/**
 * Checks all paths of options that a command reads from.
 * @param fileOf the file of options that gives an option; undefined for the command line.
 * @throws as `checkPath`.
 */
export async function checkPaths(
  options: OptionSet,
  raw: RawOptions,
  fileOf: (name: string) => string | undefined,
): Promise<void> {
  for (const [name, option] of Object.entries(options)) {
    const { path: kind, isWritten = false } = option.takes;
    if (kind === undefined || isWritten) continue;
    const paths: string[] = [];
    withPaths(raw[name], option.takes, (path) => {
      paths.push(path);
      return path;
    });
    for (const path of paths) await checkPath(flagOf(option), path, { kind, file: fileOf(name) });
  }
}
