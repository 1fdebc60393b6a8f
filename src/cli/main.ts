#!/usr/bin/env node
import { cac } from "cac";
import { SafetapeError } from "../base/errors";
import { COMMANDS } from "./commands";
import type { Command } from "./commands";
import type { ConfigFile } from "./config-file";
import { PLUGIN } from "./flags";
import { refusalInFlags } from "./in-flags";
import { nearestOptions } from "./nearest-options";
import { addOptions, flagOf, negated, UsageError, withNegativeValues, withoutTakenBack } from "./options";
import type { OptionSet, RawOptions } from "./options";
import { checkPaths } from "./paths";
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
    const { args: argv, flags: takenBack } = withoutTakenBack(process.argv, names);
    const { args } = cli.parse(withNegativeValues(argv, names), { run: false });
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
    const given = { ...cli.options };
    checkNames(command, given);
    for (const flag of takenBack) takeBack(command, flag, given);
    // The action runs after cac has checked the values of options and the number of arguments.
    matched.action(() => runCommand(command, cli.args, given));
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
  const isTakenBack = given[unknown] === false;
  const flag = `${isTakenBack ? "--no-" : word.length > 1 ? "--" : "-"}${word}`;
  throw unknownOption(command, flag, options);
}

function unknownOption(command: string, flag: string, options: OptionSet): UsageError {
  const flags = Object.values(options).map(flagOf);
  const known = flag.startsWith("--no-") ? flags.map(negated) : flags;
  return new UsageError(
    `${command} has no option ${flag}.`,
    `The nearest are ${nearestOptions(flag, known).join(", ")}; safetape ${command} --help lists all.`,
  );
}

/** Marks an option whose value the command line takes back. @throws UsageError for one that the command has not, or that is given, too. */
function takeBack({ name: command, options }: Command, flag: string, given: Record<string, unknown>): void {
  const name = Object.keys(options).find((candidate) => flagOf(options[candidate]!) === flag);
  if (name === undefined) throw unknownOption(command, negated(flag), options);
  if (given[name] !== undefined) {
    throw new UsageError(`${flag} and ${negated(flag)} exclude each other.`, "Leave one of them out.");
  }
  given[name] = null;
}

/** Runs a command by its options on the command line, and those of a file that `--config` names. */
async function runCommand(command: Command, args: readonly string[], line: RawOptions): Promise<void> {
  const { printConfig, "--": _afterDashes, ...given } = line;
  const hasFile = given["config"] !== undefined && given["config"] !== null;
  const file = hasFile ? await withConfigFile(given, command) : undefined;
  const options = file?.options ?? given;
  const fileOf = file?.fileOf ?? ((): undefined => undefined);
  try {
    const { plugin } = command.options;
    if (plugin) {
      await checkPaths({ plugin }, options, fileOf);
      await loadPlugins(PLUGIN.read(options["plugin"] ?? undefined, "--plugin") ?? []);
    }
    file?.check();
    const used = command.complete(options);
    if (printConfig !== true) {
      await checkPaths(command.options, used, fileOf);
      await command.run(args, used, print);
      return;
    }
    for (const [name, option] of Object.entries(command.options)) {
      if (used[name] !== undefined) option.read(used[name], flagOf(option));
    }
    print((await import("./config-file")).configText(command.options, used).trimEnd());
  } catch (error) {
    const refusal = refusalInFlags(error, command.options, options);
    throw file?.located(refusal) ?? refusal;
  }
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
