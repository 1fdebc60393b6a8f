#!/usr/bin/env node
import { cac } from "cac";
import type { Command } from "cac";
import { SafetapeError } from "../base/errors";
import { adaptersCommand } from "./adapters";
import { adviseCommand } from "./advise/command";
import { analyzeCommand, ANALYSIS_NAMES } from "./analyze";
import { benchCommand } from "./bench/command";
import { chatCommand } from "./chat";
import { classifyCommand } from "./classify";
import { exportCommand } from "./export";
import { doctorCommand } from "./doctor/command";
import { downloadCommand } from "./download";
import {
  ADAPTERS,
  ADVISE,
  ANALYZE,
  ANALYZE_MEMORY,
  BENCH,
  CHAT,
  CLASSIFY,
  DOCTOR,
  DOWNLOAD,
  EXPORT,
  GENERATE,
  PLAN,
  PLUGIN,
  RECIPES_OPTIONS,
  REPORT,
  SCHEDULE,
  STUDY,
  TRAIN,
} from "./flags";
import { generateCommand } from "./generate";
import { addOptions, UsageError, withNegativeValues } from "./options";
import type { OptionSet, RawOptions } from "./options";
import { planCommand } from "./plan";
import { recipesCommand } from "./recipes/command";
import { reportCommand } from "./report";
import { loadPlugins } from "./plugin/load";
import { Interrupted } from "./resumable-run";
import { studyCommand } from "./study/command";
import { trainCommand } from "./train";

const cli = cac("safetape");
const print = (line: string): void => void process.stdout.write(`${line}\n`);

const command = (usage: string, help: string, options: OptionSet): Command =>
  addOptions(cli.command(usage, help), options);

command("doctor [...constants]", "Show the GPU, its limits and its speed", DOCTOR).action(
  (constants: readonly string[], raw: RawOptions) => doctorCommand(constants, raw, print),
);
command(
  "bench [op]",
  "Time an op, those of a module (FILE.mjs), or all, against this adapter's own rates",
  BENCH,
).action((what: string | undefined, raw: RawOptions) => benchCommand(what, raw, print));
command("analyze [what]", `The papers' analyses, as numbers and figures: ${ANALYSIS_NAMES.join(", ")}`, {
  ...ANALYZE_MEMORY,
  ...ANALYZE,
}).action((what: string | undefined, raw: RawOptions) => analyzeCommand(what, raw, print));
// Loaded only when it runs, because the library that draws figures is large.
command("schedule", "Show what a policy would freeze and when, without training", SCHEDULE).action(
  async (raw: RawOptions) => (await import("./schedule")).scheduleCommand(raw, print),
);
command("plan", "Predict what a training step needs, from a configuration alone", PLAN).action((raw: RawOptions) =>
  planCommand(raw, print),
);
command("advise", "Say which method suits a task, an amount of data and a memory, and why", ADVISE).action(
  (raw: RawOptions) => adviseCommand(raw, print),
);
// Options that are given override those of a recipe, and those of a recipe override defaults.
addOptions(cli.command("train", "Fine-tune a model in a Hugging Face directory"), TRAIN, { givenOnly: true }).action(
  (given: RawOptions) => trainCommand(given, print),
);
command("recipes [name]", "List published settings for train --recipe, or show one", RECIPES_OPTIONS).action(
  (name: string | undefined, raw: RawOptions) => recipesCommand(name, raw, print),
);
command("adapters", "List the kinds of adapters, and how each is loaded, saved, merged and exported", ADAPTERS).action(
  (raw: RawOptions) => adaptersCommand(raw, print),
);
command("generate", "Continue texts with a language model and an adapter", GENERATE).action((raw: RawOptions) =>
  generateCommand(raw, print),
);
command("chat", "Talk with a language model and an adapter, by the model's chat template", CHAT).action(
  (raw: RawOptions) => chatCommand(raw),
);
command(
  "classify [...files]",
  "Classify texts (lines of files, or --text) or images, as lines of JSON",
  CLASSIFY,
).action((files: readonly string[], raw: RawOptions) => classifyCommand(files, raw, print));
command("export", "Write a model, or a LoRA adapter, for other programs: --gguf for llama.cpp", EXPORT).action(
  (raw: RawOptions) => exportCommand(raw, print),
);
command("study [file]", "Run methods x tasks x seeds, and print the papers' table", STUDY).action(
  (file: string | undefined, raw: RawOptions) => studyCommand(file, raw, print),
);
command("report <dir>", "Draw the report of a run again, from its run.json", REPORT).action(
  (dir: string, raw: RawOptions) => reportCommand(dir, raw, print),
);
command(
  "download [model]",
  "Download a model or an adapter from the Hugging Face Hub (OWNER/NAME); checked and resumable",
  DOWNLOAD,
).action((repo: string | undefined, raw: RawOptions) => downloadCommand(repo, raw, print));

cli.help();

async function main(): Promise<number> {
  try {
    const valued = cli.commands.flatMap(({ options }) => options.filter(({ rawName }) => rawName.includes("<")));
    const names = new Set(valued.map(({ rawName }) => rawName.split(" ", 1)[0]!));
    const { args } = cli.parse(withNegativeValues(process.argv, names), { run: false });
    if (cli.options["help"]) return 0;
    if (!cli.matchedCommand) {
      const [word] = args;
      throw new UsageError(
        word === undefined ? "No command is given." : `There is no command ${word}.`,
        `Commands: ${cli.commands.map(({ name }) => name).join(", ")}; safetape --help lists their options.`,
      );
    }
    const { plugin } = cli.options;
    if (plugin !== undefined && cli.matchedCommand.hasOption("plugin"))
      await loadPlugins(PLUGIN.read(plugin, "--plugin") ?? []);
    await cli.runMatchedCommand();
    return 0;
  } catch (error) {
    return reportError(error);
  }
}

/** Prints an error and returns the exit code: 2 for wrong use, 128 + signal for an interrupted run, 1 otherwise. */
function reportError(error: unknown): number {
  const isUsage = error instanceof UsageError || (error instanceof Error && error.name === "CACError");
  const isExpected = error instanceof SafetapeError || isUsage;
  if (!isExpected || process.env["SAFETAPE_DEBUG"])
    process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  else process.stderr.write(`${error.message}\n`);
  if (error instanceof Interrupted) return error.exitCode;
  return isUsage ? 2 : 1;
}

// A reader that closes the pipe early (`| head`) is not an error.
process.stdout.on("error", (error: NodeJS.ErrnoException) => process.exit(error.code === "EPIPE" ? 0 : 1));
process.exitCode = await main();
