import { stat } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { createInterface } from "node:readline";
import * as v from "valibot";
import { makeAdapter } from "../adapter/make";
import { SafetapeError } from "../base/errors";
import { readJson } from "../io/json";
import { createModel, withHead } from "../model/families";
import { openDirectory } from "../node/directory";
import { fitMemoryBudget } from "../train/estimate/fit-memory-budget";
import { entryText } from "./config-file";
import { INIT, TRAIN } from "./flags";
import { flagOf, readOptions, UsageError } from "./options";
import type { OptionSet, Print, RawOptions } from "./options";
import { taskHead } from "./tasks/tasks";

const DEFAULT_FILE = "safetape.yaml";

/** Asks for a line of text. */
export type Ask = (question: string) => Promise<string>;

/** A question for the value of an option of `init`. */
interface Question {
  readonly name: keyof typeof INIT;
  readonly text: string;
  /** What an empty answer means; undefined where there must be one. */
  readonly fallback?: string;
  /** Refuses an answer that cannot be right. */
  readonly check?: (answer: string) => Promise<unknown>;
}

const CONFIG = v.record(v.string(), v.unknown());
const configOf = async (model: string) => readJson(await openDirectory(model), "config.json", CONFIG);

const QUESTIONS: readonly Question[] = [
  {
    name: "model",
    text: "Directory of the model, as from the Hugging Face Hub",
    check: async (path) => createModel(await configOf(path)),
  },
  { name: "task", text: `Task (${TRAIN.task.help})` },
  {
    name: "data",
    text: "Directory with the task's files, or its training file",
    async check(path) {
      if ((await stat(path).catch(() => undefined)) === undefined)
        throw new UsageError(`There is nothing at ${path}.`, "Give a path that exists.");
    },
  },
  { name: "adapter", text: `Adapter (${TRAIN.adapter.help})`, fallback: "lora" },
  { name: "memoryBudget", text: "GPU memory to fit into, such as 8GB (empty: no limit)", fallback: "" },
];

/**
 * `safetape init [FILE]`: writes a file of options for `safetape train --config`, with comments. What is not given is asked for in a
 * terminal; elsewhere, and with `--yes`, it has its default.
 * @param ask asks in another way than in a terminal.
 * @throws UsageError where the file exists, where model, task or data are missing, and for values that do not belong together.
 */
export async function initCommand(path = DEFAULT_FILE, raw: RawOptions, print: Print, ask?: Ask): Promise<void> {
  const { yes, overwrite } = readOptions(INIT, raw);
  const directory = await openDirectory(dirname(path));
  const isThere = (await stat(path).catch(() => undefined)) !== undefined;
  if (isThere && !overwrite)
    throw new UsageError(`${path} exists.`, "Give another file, or --overwrite to write over it.");
  const answers = yes ? raw : await answered(raw, ask);
  const text = await fileText(answers, path);
  await directory.write(basename(path), new TextEncoder().encode(text));
  print(`${path} is written: safetape train --config ${path}`);
}

/** The options that are given, and answers to questions for the others. */
async function answered(raw: RawOptions, ask: Ask | undefined): Promise<RawOptions> {
  const open = QUESTIONS.filter(({ name }) => raw[name] === undefined);
  if (ask) return withAnswers(raw, open, ask);
  if (!process.stdin.isTTY) {
    if (open.length > 0) process.stderr.write("stdin is no terminal: nothing is asked, as with --yes\n");
    return raw;
  }
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  terminal.once("SIGINT", () => terminal.close());
  // Lines that come before their question, as pasted ones do, wait here.
  const lines = terminal[Symbol.asyncIterator]();
  try {
    return await withAnswers(raw, open, async (question) => {
      terminal.setPrompt(question);
      terminal.prompt();
      const line = await lines.next();
      if (line.done !== true) return line.value;
      process.stderr.write("\n");
      throw new UsageError(
        "The questions were not answered; nothing is written.",
        "Give options: safetape init --help.",
      );
    });
  } finally {
    terminal.close();
  }
}

async function withAnswers(raw: RawOptions, questions: readonly Question[], ask: Ask): Promise<RawOptions> {
  const answers: Record<string, unknown> = { ...raw };
  for (const question of questions) answers[question.name] = await answerTo(question, ask);
  return answers;
}

/** The answer to a question, which is asked again until it can be right. */
async function answerTo({ name, text, fallback, check }: Question, ask: Ask): Promise<string | undefined> {
  const hint = fallback === undefined || fallback === "" ? "" : ` [${fallback}]`;
  for (;;) {
    const answer = (await ask(`${text}${hint}: `)).trim() || fallback;
    if (answer === "") return undefined;
    if (answer === undefined) continue;
    try {
      INIT[name].read(answer, flagOf(INIT[name]));
      await check?.(answer);
      return answer;
    } catch (error) {
      if (!(error instanceof SafetapeError)) throw error;
      process.stderr.write(`${error.message}\n`);
    }
  }
}

/** Options in a section of the file, by name: a value, or an example in a comment. */
interface Section {
  readonly title: string;
  readonly set: RawOptions;
  readonly examples?: RawOptions;
}

/** The file. @throws UsageError for what is missing; what the model, the task, the adapter and the budget refuse. */
async function fileText(raw: RawOptions, path: string): Promise<string> {
  const { model, task, data, adapter: kind = "lora", out = "adapter", memoryBudget } = readOptions(INIT, raw);
  for (const [name, value] of Object.entries({ model, task, data })) {
    if (value === undefined)
      throw new UsageError(`--${name} is missing.`, "Give it, or answer the questions in a terminal.");
  }
  // Checked above.
  const chosen = { model: model!, task: task!, data: data! };
  const config = withHead(await configOf(chosen.model), await taskHead(chosen.task, chosen.data));
  const network = createModel(config);
  const ofAdapter = RANKED.includes(kind) ? { rank: 8, alpha: 16 } : {};
  const adapter = makeAdapter({ kind, ...ofAdapter });
  adapter.peftConfig(network); // Throws for a model that has nothing for this adapter.
  const maxLength = Math.min(network.maxLength, LENGTHS[chosen.task] ?? Number(TRAIN.maxLength.fallback));
  const training = { epochs: 3, batch: 8, ...(!network.image && { maxLength }), lr: kind === "full" ? 2e-5 : 1e-3 };
  if (memoryBudget !== undefined) {
    const length = network.image ? {} : { length: maxLength };
    fitMemoryBudget({ config, adapter, batch: training.batch, ...length }, memoryBudget);
  }
  const sections: readonly Section[] = [
    {
      title: "What is trained, on what",
      set: { ...chosen, out },
      examples: { baseModel: "OWNER/NAME", split: "half-dev", examples: 1000 },
    },
    {
      title: "The adapter",
      set: { adapter: kind, ...ofAdapter },
      examples: RANKED.includes(kind) ? { dropout: 0.05, targets: "all-linear" } : {},
    },
    {
      title: "Training",
      set: { ...training, schedule: "linear", seed: 0 },
      examples: { warmupRatio: 0.05, weightDecay: 0.01, accumulate: 4, evalEvery: 100, patience: 3 },
    },
    {
      title: "Memory",
      set: memoryBudget === undefined ? {} : { memoryBudget: raw["memoryBudget"], fit: true },
      examples:
        memoryBudget === undefined
          ? { memoryBudget: "8GB", fit: true, weights: "f16", activations: "f16", recompute: "layers" }
          : {},
    },
    { title: "Freezing during the run, which returns memory", set: {}, examples: { freeze: "safe" } },
    { title: "What is shown and kept", set: {}, examples: { tensorboard: "runs", checkpointEvery: 100 } },
  ];
  const opening = `# Options of a run, written by safetape init: safetape train --config ${basename(path)}
# A key behind # is an example. safetape train --help lists all options. Paths are relative to this file.
`;
  return [opening, ...sections.map((section) => sectionText(section, dirname(path)))].join("\n");
}

/** Adapters of a rank and an alpha. */
const RANKED: readonly string[] = ["lora", "dora"];

/** Tokens of a row, of tasks with longer texts than sentences. */
const LENGTHS: Readonly<Record<string, number>> = {
  squad: 384,
  lm: 512,
  chat: 512,
  pairs: 512,
  dpo: 512,
  samsum: 512,
  agnews: 256,
};

function sectionText({ title, set, examples = {} }: Section, folder: string): string {
  const options: OptionSet = TRAIN;
  const entries = (values: RawOptions, mark: string, from: string): string[] =>
    Object.entries(values).map(([name, value]) => {
      const option = options[name]!;
      return `# ${option.help}\n${mark}${entryText(option, value, from)}`;
    });
  return [`# --- ${title} ---\n`, ...entries(set, "", folder), ...entries(examples, "#", ".")].join("");
}
