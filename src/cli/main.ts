#!/usr/bin/env node
import { cac } from "cac";
import type { Command } from "cac";
import { ADAPTER_KINDS } from "../adapter/make";
import { POLICY_NAMES } from "../freeze/make";
import { SafetapeError } from "../base/errors";
import { WEIGHT_FORMATS } from "../base/packed";
import { ACTIVATION_FORMATS } from "../op/pack";
import { analyzeCommand, ANALYSIS_NAMES } from "./analyze";
import { doctorCommand } from "./doctor";
import { downloadCommand } from "./download";
import { generateCommand } from "./generate";
import { Interrupted } from "./keeping";
import { UsageError } from "./options";
import type { Given } from "./options";
import { planCommand } from "./plan";
import { reportCommand } from "./report";
import { studyCommand } from "./study";
import { trainCommand } from "./train";
import { TASKS } from "./train-data";
import { tuneCommand } from "./tune";

const cli = cac("safetape");
const print = (line: string): void => void process.stdout.write(`${line}\n`);

cli
  .command("doctor", "Which GPU there is, its limits, and how fast it is")
  .option("--tune", "Time every variant of the kernels on this adapter, and keep what is fastest")
  .option("--seconds <s>", "Seconds that --tune may take for it (default: as many as it takes)")
  .option("--json", "One JSON object")
  .action((given: Given) => (given["tune"] ? tuneCommand(given, print) : doctorCommand(given, print)));

/** Options that commands share: flag, what it says, default. */
type Shared = readonly (readonly [flag: string, told: string, usual?: unknown])[];

const ADAPTER: Shared = [
  ["--adapter <kind>", ADAPTER_KINDS.join(", "), "lora"],
  ["--rank <r>", "Rank of a low-rank adapter"],
  ["--alpha <a>", "Its alpha (LoRA's default: the rank)"],
  ["--dropout <p>", "Its dropout"],
  ["--targets <names>", "Modules to adapt: names with commas, all-linear, or /a pattern/"],
  ["--layers <layers>", "Layers to adapt: 0,1,2, early, later or random:SEED"],
  ["--size <n>", "Width of a bottleneck"],
  ["--tokens <n>", "Virtual tokens of a prompt"],
  ["--initial-rank <r>", "AdaLoRA's rank at the start"],
  ["--target-rank <r>", "AdaLoRA's average rank at the end"],
];

const MEMORY: Shared = [
  ["--weights <format>", `How frozen weights are stored: ${WEIGHT_FORMATS.join(", ")}`, "f32"],
  ["--activations <format>", `How kept activations are stored: ${ACTIVATION_FORMATS.join(", ")}`, "f32"],
  ["--recompute <what>", "Computed twice rather than kept: none, mlp, layers, or bytes to fit into", "none"],
];

const GENERATION: Shared = [
  ["--max-new-tokens <n>", "Most tokens of a continuation", 64],
  ["--beams <n>", "Beams; 1 takes the likeliest token each time", 1],
  ["--length-penalty <x>", "Scores are divided by the length to this power", 1],
  ["--unique-ngram <n>", "No n tokens in a row come twice; 0 for no such rule", 0],
];

/** How analyses train, beside the adapter's own options. */
const TRAINING: Shared = [
  ["--freeze <policy>", `${POLICY_NAMES.join(", ")}, or JSON with its options`],
  ["--tau-t <x>", "SAFE's final threshold"],
  ["--freeze-share <p>", "Share of adapters that SAFE is to freeze (default 0.5)"],
  ["--every <n>", "Steps between a policy's decisions (SAFE: default an epoch)"],
  ["--epochs <n>", "Epochs", 3],
  ["--steps <n>", "Optimizer steps, in place of epochs"],
  ["--batch <n>", "Rows of a batch", 8],
  ["--max-length <n>", "Tokens of a row", 128],
  ["--lr <x>", "Learning rate", 0.001],
  ["--schedule <type>", "linear, cosine or constant", "linear"],
  ["--warmup-ratio <x>", "Share of steps with rising learning rate"],
  ["--weight-decay <x>", "AdamW's decay"],
  ["--max-grad-norm <x>", "Clip the gradient's norm", 1],
  ["--without-dropout", "No dropout acts, neither the model's nor the adapter's"],
  ["--seed <n>", "Seed", 0],
];

const analysing = cli
  .command("analyze [what]", `The papers' analyses, as numbers and pictures: ${ANALYSIS_NAMES.join(", ")}`)
  .option("--model <dir>", "Model directory with tokenizer.json")
  .option("--task <name>", TASKS.join(", "))
  .option("--data <path>", "Directory with the task's published files, or a text for lm")
  .option("--out <dir>", "Where results are saved; runs of single layers that are there are not run again")
  .option("--saved <dirs>", "landscape, hessian: saved adapters to compare, with commas; left out, two are trained")
  .option("--batches <n>", "landscape, hessian: batches of the training data that the loss is taken of", { default: 4 })
  .option("--over <what>", "... and what is moved: adapter, or all that is trained (landscape: all, hessian: adapter)")
  .option("--points <n>", "landscape: points along either direction", { default: 11 })
  .option("--span <x>", "landscape: how far either direction goes, in lengths of the weights", { default: 1 })
  .option("--count <n>", "hessian: eigenvalues", { default: 5 })
  .option("--epsilon <x>", "hessian: step of the gradients' differences (default 0.0003)")
  .option("--max-products <n>", "hessian: most Hessian-vector products", { default: 60 })
  .option("--snapshot-every <n>", "similarity: steps between two comparisons (default 24 of them)")
  .option("--png", "Pictures as PNG, too")
  .option("--quiet", "No progress")
  .option("--json", "One JSON object")
  .action((what: string | undefined, given: Given) => analyzeCommand(what, given, print));

cli
  .command("schedule", "What a policy would freeze and when, before anything is trained")
  .option("--policy <name>", `${POLICY_NAMES.join(", ")}, or JSON with its options`, { default: "safe" })
  .option("--layers <n>", "Layers of the model", { default: 12 })
  .option("--steps <n>", "Optimizer steps", { default: 100 })
  .option("--steps-per-epoch <n>", "Steps of an epoch (default a tenth of all)")
  .option("--scores <numbers>", "A score for every layer, with commas, or the run.json of a run with SAFE")
  .option("--tau-t <x>", "SAFE's final threshold")
  .option("--freeze-share <p>", "Share of adapters that SAFE is to freeze")
  .option("--every <n>", "Steps between a policy's decisions (SAFE: default an epoch)")
  .option("--out <dir>", "Where schedule.json, .csv and .svg are saved")
  .option("--png", "The picture as PNG, too")
  .option("--json", "One JSON object")
  .action(async (given: Given) => (await import("./schedule")).scheduleCommand(given, print));

const planning = cli
  .command("plan", "What a training step needs, from a configuration alone")
  .option("--config <file>", "config.json of a model")
  .option("--batch <n>", "Rows of a batch", { default: 8 })
  .option("--length <n>", "Tokens of a row (default 128, or as many as the model takes)")
  .option("--freeze-below <k>", "Adapters of layers below k are frozen", { default: 0 })
  .option("--budget <bytes>", "Find formats, recomputation and a batch size that fit into so many, as 8GB")
  .option("--json", "One JSON object")
  .action((given: Given) => planCommand(given, print));

const training = cli
  .command("train", "Fine-tune a Hugging Face directory")
  .option("--model <dir>", "Model directory with tokenizer.json")
  .option("--task <name>", TASKS.join(", "))
  .option("--data <path>", "Directory with the task's published files, or a text for lm")
  .option("--out <dir>", "Where to save the adapter and run.json")
  .option("--prompt-init <how>", "Where they begin: random, or vocabulary")
  .option("--prompt-text <text>", "Words that they begin with")
  .option("--freeze <policy>", `${POLICY_NAMES.join(", ")}, or JSON with its options`, { default: "never" })
  .option("--tau-t <x>", "SAFE's final threshold")
  .option("--freeze-share <p>", "Share of adapters that SAFE is to freeze (default 0.5)")
  .option("--every <n>", "Steps between a policy's decisions (SAFE: default an epoch)")
  .option("--epochs <n>", "Epochs", { default: 3 })
  .option("--batch <n>", "Rows of a batch", { default: 8 })
  .option("--accumulate <n>", "Batches of one optimizer step", { default: 1 })
  .option("--micro-batch <n>", "Rows that run at once (default: whole batches; with --fit as many as fit)")
  .option("--max-length <n>", "Tokens of a row", { default: 128 })
  .option("--lr <x>", "Learning rate", { default: 0.001 })
  .option("--schedule <type>", "linear, cosine or constant", { default: "linear" })
  .option("--warmup-ratio <x>", "Share of steps with rising learning rate")
  .option("--weight-decay <x>", "AdamW's decay")
  .option("--max-grad-norm <x>", "Clip the gradient's norm", { default: 1 })
  .option("--label-smoothing <x>", "Label smoothing")
  .option("--eval-every <n>", "Evaluate every n steps, and keep the best adapter (default: at the end)")
  .option("--generate", "Write the dev set's texts at the end, and score them (e2e)")
  .option("--memory-budget <bytes>", "Refuse a run that needs more, as 8GB; or, with --fit, make it fit")
  .option("--fit", "Choose formats, recomputation and a batch size that fit into --memory-budget")
  .option("--on-not-finite <what>", "stop, or skip steps whose loss or gradients are not finite", { default: "stop" })
  .option("--without-dropout", "No dropout acts, neither the model's nor the adapter's")
  .option("--prefix-cache <bytes>", "Keep what enters the lowest live layer on the host, at most so many, as 4GB")
  .option("--merge-on-freeze", "Add frozen LoRAs to their weights while training")
  .option("--checkpoint-every <n>", "Save the run every n steps, to be resumed; 0 for only when it is stopped", {
    default: 100,
  })
  .option("--keep-checkpoints <n>", "Checkpoints that stay until the run has ended", { default: 2 })
  .option("--resume", "Go on from the latest checkpoint in --out, if there is one")
  .option("--seed <n>", "Seed", { default: 0 })
  .option("--explain", "Print what a step keeps, and why")
  .option("--report-png", "Save the report's figures as PNG, too (needs @resvg/resvg-js)")
  .option("--quiet", "No progress")
  .option("--json", "One JSON object a line, as docs/train-events.schema.json says")
  .action((given: Given) => trainCommand(given, print));

const generating = cli
  .command("generate", "Continue texts with a language model and an adapter")
  .option("--model <dir>", "Model directory with tokenizer.json")
  .option("--adapter <dir>", "Adapter directory; left out, the model as it is")
  .option("--weights <format>", `How weights are stored: ${WEIGHT_FORMATS.join(", ")}`, { default: "f32" })
  .option("--prompt <text>", "What to continue")
  .option("--prompts <file>", "... or a text file with one prompt a line")
  .option("--e2e <file>", "... or a CSV file of the E2E challenge: writes a text for every meaning, and scores them")
  .option("--out <dir>", "Where E2E's texts, scores and the files of its scorer are saved")
  .option("--quiet", "No progress")
  .option("--json", "One JSON object a text, or one with E2E's scores")
  .action((given: Given) => generateCommand(given, print));
function share(command: Command, ...groups: readonly Shared[]): void {
  for (const [flag, told, usual] of groups.flat()) {
    command.option(flag, told, usual === undefined ? undefined : { default: usual });
  }
}
share(planning, ADAPTER, MEMORY);
share(training, ADAPTER, MEMORY, GENERATION);
share(analysing, ADAPTER, TRAINING);
share(generating, GENERATION);

cli
  .command("study [file]", "Run methods x tasks x seeds, and print the papers' table")
  .option("--out <dir>", "Where runs and the table are saved (default STUDY-output); runs there are not run again")
  .option("--json", "One JSON object")
  .action((file: string | undefined, given: Given) => studyCommand(file, given, print));

cli
  .command("report <dir>", "Draw the report of a run again, from its run.json")
  .option("--report-png", "Save its figures as PNG, too (needs @resvg/resvg-js)")
  .option("--json", "One JSON object with the files' names")
  .action((dir: string, given: Given) => reportCommand(dir, given, print));

cli
  .command("download [model]", "Fetch a model or an adapter, OWNER/NAME on the Hugging Face Hub; checked, resumed")
  .option("--out <dir>", "Where to (default NAME)")
  .option("--revision <name>", "Branch, tag or commit", { default: "main" })
  .option("--token-file <file>", "A file with a token, for gated models (default: HF_TOKEN of the environment)")
  .option("--quiet", "No progress")
  .option("--json", "One JSON object")
  .action((repo: string | undefined, given: Given) => downloadCommand(repo, given, print));

cli.help();

async function main(): Promise<number> {
  try {
    const { args } = cli.parse(process.argv, { run: false });
    if (cli.options["help"]) return 0;
    if (!cli.matchedCommand) {
      const word = args[0];
      throw new UsageError(
        word === undefined ? "No command is given." : `There is no command ${word}.`,
        `Commands: ${cli.commands.map(({ name }) => name).join(", ")}; safetape --help lists their options.`,
      );
    }
    await cli.runMatchedCommand();
    return 0;
  } catch (error) {
    return explain(error);
  }
}

/** Prints what went wrong and returns the exit code: 2 for wrong use, 1 for everything else. */
function explain(error: unknown): number {
  const isUsage = error instanceof UsageError || (error instanceof Error && error.name === "CACError");
  const isKnown = error instanceof SafetapeError || isUsage;
  if (!isKnown || process.env["SAFETAPE_DEBUG"])
    process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  else process.stderr.write(`${error.message}\n`);
  if (error instanceof Interrupted) return error.exitCode;
  return isUsage ? 2 : 1;
}

// A reader that has seen enough (`| head`) is no error.
process.stdout.on("error", (error: NodeJS.ErrnoException) => process.exit(error.code === "EPIPE" ? 0 : 1));
process.exitCode = await main();
