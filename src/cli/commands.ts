import { adaptersCommand } from "./adapters";
import { adviseCommand } from "./advise/command";
import { analyzeCommand, ANALYSIS_NAMES } from "./analyze";
import { benchCommand } from "./bench/command";
import { chatCommand } from "./chat";
import { classifyCommand } from "./classify";
import { completionCommand, SHELLS } from "./completion";
import { doctorCommand } from "./doctor/command";
import { downloadCommand } from "./download";
import { exportCommand } from "./export";
import {
  ADAPTERS,
  ADVISE,
  ANALYZE,
  ANALYZE_MEMORY,
  BENCH,
  CHAT,
  CLASSIFY,
  COMMON,
  DOCTOR,
  DOWNLOAD,
  EXPORT,
  GENERATE,
  INIT,
  MERGE,
  PLAN,
  RECIPES_OPTIONS,
  REPORT,
  SCHEDULE,
  STUDIO,
  STUDY,
  TRAIN,
  UPLOAD,
} from "./flags";
import { generateCommand } from "./generate";
import { mergeCommand } from "./merge";
import type { OptionSet, Print, RawOptions, Takes } from "./options";
import { withFallbacks } from "./options";
import { planCommand } from "./plan";
import { RECIPES } from "./recipes";
import { recipesCommand } from "./recipes/command";
import { reportCommand } from "./report";
import { studyCommand } from "./study/command";
import { trainCommand, trainingOptions } from "./train";

/** A command of the program. */
export interface Command {
  readonly name: string;
  /** Its arguments, as the help shows them. */
  readonly args: string;
  /** What an argument may be. */
  readonly takes: Takes;
  readonly help: string;
  readonly options: OptionSet;
  /** Options as they are used: what is given, and the rest. */
  readonly complete: (given: RawOptions) => RawOptions;
  readonly run: (args: readonly string[], given: RawOptions, print: Print) => void | Promise<void>;
}

/** Those of the members that most commands share may be left out. */
type CommandSpec = Omit<Command, "args" | "takes" | "complete"> & Partial<Pick<Command, "args" | "takes" | "complete">>;

function command({ args = "", takes = {}, options: own, complete, ...spec }: CommandSpec): Command {
  const options = { ...COMMON, ...own };
  return { ...spec, args, takes, options, complete: complete ?? ((given) => withFallbacks(options, given)) };
}

/** The commands, in the order of the help. */
export const COMMANDS: readonly Command[] = [
  command({
    name: "doctor",
    args: "[...constants]",
    help: "Show the GPU, its limits and its speed",
    options: DOCTOR,
    run: doctorCommand,
  }),
  command({
    name: "bench",
    args: "[op]",
    takes: { path: "file" },
    help: "Time an op, those of a module (FILE.mjs), or all, against this adapter's own rates",
    options: BENCH,
    run: ([what], given, print) => benchCommand(what, given, print),
  }),
  command({
    name: "analyze",
    args: "[what]",
    takes: { words: ANALYSIS_NAMES },
    help: `The papers' analyses, as numbers and figures: ${ANALYSIS_NAMES.join(", ")}`,
    options: { ...ANALYZE_MEMORY, ...ANALYZE },
    run: ([what], given, print) => analyzeCommand(what, given, print),
  }),
  command({
    name: "schedule",
    help: "Show what a policy would freeze and when, without training",
    options: SCHEDULE,
    // Loaded only when it runs, because the library that draws figures is large.
    run: async (_, given, print) => (await import("./schedule")).scheduleCommand(given, print),
  }),
  command({
    name: "plan",
    help: "Predict what a training step needs, from a configuration alone",
    options: PLAN,
    run: (_, given, print) => planCommand(given, print),
  }),
  command({
    name: "advise",
    help: "Say which method suits a task, an amount of data and a memory, and why",
    options: ADVISE,
    run: (_, given, print) => adviseCommand(given, print),
  }),
  command({
    name: "train",
    help: "Fine-tune a model in a Hugging Face directory",
    options: TRAIN,
    complete: trainingOptions,
    run: (_, given, print) => trainCommand(given, print),
  }),
  command({
    name: "init",
    args: "[file]",
    takes: { path: "file" },
    help: "Write a file of options for train --config, after a few questions",
    options: INIT,
    run: async ([file], given, print) => (await import("./init")).initCommand(file, given, print),
  }),
  command({
    name: "recipes",
    args: "[name]",
    takes: { words: RECIPES.map(({ name }) => name) },
    help: "List published settings for train --recipe, or show one",
    options: RECIPES_OPTIONS,
    run: ([name], given, print) => recipesCommand(name, given, print),
  }),
  command({
    name: "adapters",
    help: "List the kinds of adapters, and how each is loaded, saved, merged and exported",
    options: ADAPTERS,
    run: (_, given, print) => adaptersCommand(given, print),
  }),
  command({
    name: "generate",
    help: "Continue texts with a language model and an adapter",
    options: GENERATE,
    run: (_, given, print) => generateCommand(given, print),
  }),
  command({
    name: "chat",
    help: "Talk with a language model and an adapter, by the model's chat template",
    options: CHAT,
    run: (_, given) => chatCommand(given),
  }),
  command({
    name: "classify",
    args: "[...files]",
    takes: { path: "file" },
    help: "Classify texts (lines of files, or --text) or images, as lines of JSON",
    options: CLASSIFY,
    run: classifyCommand,
  }),
  command({
    name: "export",
    help: "Write a model, or a LoRA adapter, for other programs: --gguf for llama.cpp",
    options: EXPORT,
    run: (_, given, print) => exportCommand(given, print),
  }),
  command({
    name: "merge",
    args: "[...adapters]",
    takes: { path: "directory" },
    help: "Merge LoRA adapters of one model into one (DIR or DIR:WEIGHT ...), or with --into an adapter into its model",
    options: MERGE,
    run: (adapters, given, print) => mergeCommand(adapters, given, print),
  }),
  command({
    name: "study",
    args: "[file]",
    takes: { path: "file" },
    help: "Run methods x tasks x seeds, and print the papers' table",
    options: STUDY,
    run: ([file], given, print) => studyCommand(file, given, print),
  }),
  command({
    name: "report",
    args: "<dir>",
    takes: { path: "directory" },
    help: "Draw the report of a run again, from its run.json",
    options: REPORT,
    run: ([directory], given, print) => reportCommand(directory!, given, print),
  }),
  command({
    name: "download",
    args: "[model]",
    help: "Download a model or an adapter from the Hugging Face Hub (OWNER/NAME); checked and resumable",
    options: DOWNLOAD,
    run: ([repo], given, print) => downloadCommand(repo, given, print),
  }),
  command({
    name: "upload",
    args: "[...what]",
    takes: { path: "directory" },
    help: "Upload an adapter or a model to the Hugging Face Hub in one commit: DIR OWNER/NAME",
    options: UPLOAD,
    run: async (what, given, print) => (await import("./upload")).uploadCommand(what, given, print),
  }),
  command({
    name: "studio",
    help: "Serve a page that fine-tunes a model on a file of yours, in a browser of this machine",
    options: STUDIO,
    run: async (_, given, print) => (await import("./studio/command")).studioCommand(given, print),
  }),
  command({
    name: "completion",
    args: "[shell]",
    takes: { words: SHELLS },
    help: `Print a script that completes commands, options and values in a shell: ${SHELLS.join(", ")}`,
    options: {},
    run: ([shell], _, print) => completionCommand(shell, COMMANDS, print),
  }),
];
