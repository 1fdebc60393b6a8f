#!/usr/bin/env node
import { cac } from "cac";
import { SafetapeError } from "../base/errors";
import { nearestNames } from "../base/nearest";
import { COMMANDS } from "./commands";
import type { Command } from "./commands";
import type { ConfigFile } from "./config-file";
import { PLUGIN } from "./flags";
import { addOptions, flagOf, UsageError, withNegativeValues } from "./options";
import type { RawOptions } from "./options";
import { loadPlugins } from "./plugin/load";
import { Interrupted } from "./resumable-run";

const cli = cac("safetape");
const print = (line: string): void => void process.stdout.write(`${line}\n`);

for (const { name, args, help, options } of COMMANDS) addOptions(cli.command(`${name} ${args}`.trim(), help), options);
cli.help();

async function main(): Promise<number> {
  try {
    const valued = cli.commands.flatMap(({ options }) => options.filter(({ rawName }) => rawName.includes("<")));
    const names = new Set(valued.map(({ rawName }) => rawName.split(" ", 1)[0]!));
    const { args } = cli.parse(withNegativeValues(process.argv, names), { run: false });
    if (cli.options["help"]) return 0;
    const matched = cli.matchedCommand;
    const command = COMMANDS.find(({ name }) => name === matched?.name);
    if (!matched || !command) {
      const [word] = args;
      throw new UsageError(
        word === undefined ? "No command is given." : `There is no command ${word}.`,
        `Commands: ${cli.commands.map(({ name }) => name).join(", ")}; safetape --help lists their options.`,
      );
    }
    checkNames(command, cli.options);
    // The action runs after cac has checked the values of options and the number of arguments.
    matched.action(() => runCommand(command, cli.args, cli.options));
    await cli.runMatchedCommand();
    return 0;
  } catch (error) {
    return reportError(error);
  }
}

/** @throws UsageError for an option that the command has not, with those that are most like it. */
function checkNames({ name: command, options }: Command, given: RawOptions): void {
  const unknown = Object.keys(given).find((name) => !["--", "help", "h", ...Object.keys(options)].includes(name));
  if (unknown === undefined) return;
  const word = unknown.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  const flag = `${word.length > 1 ? "--" : "-"}${word}`;
  const nearest = nearestNames(flag, Object.values(options).map(flagOf));
  throw new UsageError(
    `${command} has no option ${flag}.`,
    `The nearest are ${nearest.join(", ")}; safetape ${command} --help lists all.`,
  );
}

/** Runs a command by its options on the command line, and those of a file that `--config` names. */
async function runCommand(command: Command, args: readonly string[], line: RawOptions): Promise<void> {
  const { printConfig, "--": _afterDashes, ...given } = line;
  const file = given["config"] === undefined ? undefined : await withConfigFile(given, command);
  const options = file?.options ?? given;
  if (command.options["plugin"]) await loadPlugins(PLUGIN.read(options["plugin"], "--plugin") ?? []);
  file?.check();
  const used = command.complete(options);
  if (printConfig !== true) return command.run(args, used, print);
  for (const [name, option] of Object.entries(command.options)) {
    if (used[name] !== undefined) option.read(used[name], flagOf(option));
  }
  print((await import("./config-file")).configText(command.options, used).trimEnd());
}

/** Loads what reads YAML only for who has a file. */
const withConfigFile = async (given: RawOptions, command: Command): Promise<ConfigFile> =>
  (await import("./config-file")).withConfigFile(given, command);

/** Prints an error and returns the exit code: 2 for wrong use, 128 + signal for an interrupted run, 1 otherwise. */
function reportError(error: unknown): number {
  const isUsage = error instanceof UsageError || (error instanceof Error && error.name === "CACError");
  const isExpected = error instanceof SafetapeError || isUsage;
  if (!isExpected || process.env["SAFETAPE_DEBUG"])
    process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  else if (error instanceof SafetapeError) process.stderr.write(`${error.message}\n`);
  // cac's own errors are one line of fact.
  else process.stderr.write(`${error.message}.\nsafetape ${process.argv[2]} --help lists its arguments and options.\n`);
  if (error instanceof Interrupted) return error.exitCode;
  return isUsage ? 2 : 1;
}

// A reader that closes the pipe early (`| head`) is not an error.
process.stdout.on("error", (error: NodeJS.ErrnoException) => process.exit(error.code === "EPIPE" ? 0 : 1));
process.exitCode = await main();
