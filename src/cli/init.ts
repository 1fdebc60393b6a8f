import { stat } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { createInterface } from "node:readline";
import * as v from "valibot";
import type { Adapter } from "../adapter/adapter";
import { ADAPTER_KINDS, makeAdapter } from "../adapter/make";
import { SafetapeError } from "../base/errors";
import { readJson } from "../io/json";
import { createModel } from "../model/families";
import { tokensBefore } from "../model/forward";
import type { Model } from "../model/model";
import { openDirectory } from "../node/directory";
import { dpo } from "../preference/dpo";
import { fitMemoryBudget } from "../train/estimate/fit-memory-budget";
import type { Objective } from "../train/options";
import { blaming, ifAllowed } from "./blame";
import { entryText } from "./config-file";
import { checkFit, INIT, TRAIN } from "./flags";
import { flagOf, oneOf, readOptions, UsageError } from "./options";
import type { OptionSet, Print, RawOptions } from "./options";
import { checkPath } from "./paths";
import { FirstRows } from "./tasks/fitting";
import type { RowSettings } from "./tasks/fitting";
import { isDivided } from "./tasks/tasks";

const DEFAULT_FILE = "safetape.yaml";

/** Asks for a line of text. */
export type Ask = (question: string) => Promise<string>;

/** A question for the value of an option of `init`. */
interface Question {
  readonly name: keyof typeof INIT;
  readonly text: string;
  /** What an empty answer means; undefined where there must be one. */
  readonly fallback?: string;
  /** What to do where nothing is asked and there is no answer. */
  readonly remedy?: string;
  /** Refuses an answer that cannot be right. */
  readonly check?: (answer: string) => unknown;
}

/** Answers to questions: what options give, and else what somebody is asked for, if anybody is. */
class Answers {
  constructor(
    private readonly raw: RawOptions,
    private readonly ask: Ask | undefined,
  ) {}

  get isAsking(): boolean {
    return this.ask !== undefined;
  }

  /** An option as the command line gives it. @throws UsageError for a value that is not allowed. */
  given(name: keyof typeof INIT): string | undefined {
    const value = INIT[name].read(this.raw[name], flagOf(INIT[name]));
    return value === undefined ? undefined : String(this.raw[name]);
  }

  /** @returns an empty text where nothing is the answer. @throws UsageError for what is missing, or wrong on the command line. */
  async to(question: Question): Promise<string> {
    const { name, fallback, check, remedy = "Give it, or answer the questions in a terminal." } = question;
    const given = this.given(name);
    if (given === undefined && this.ask) return answerTo(question, this.ask);
    const answer = given ?? fallback;
    if (answer === undefined) throw new UsageError(`${flagOf(INIT[name])} is missing.`, remedy);
    if (answer !== "") await check?.(answer);
    return answer;
  }
}

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
  const text = await withAsking(yes ? undefined : (ask ?? "terminal"), async (asking) =>
    fileText(path, new Answers(raw, asking)),
  );
  await directory.write(basename(path), new TextEncoder().encode(text));
  print(`${path} is written: safetape train --config ${path}`);
}

/** Runs something that asks in a terminal, if there is one, or in another way, or not at all. */
async function withAsking<T>(ask: Ask | "terminal" | undefined, run: (ask?: Ask) => Promise<T>): Promise<T> {
  if (ask !== "terminal") return run(ask);
  if (!process.stdin.isTTY) {
    process.stderr.write("stdin is no terminal: nothing is asked, as with --yes\n");
    return run();
  }
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  terminal.once("SIGINT", () => terminal.close());
  // Lines that come before their question, as pasted ones do, wait here.
  const lines = terminal[Symbol.asyncIterator]();
  try {
    return await run(async (question) => {
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

/** The answer to a question, which is asked again until it can be right. */
async function answerTo({ name, text, fallback, check }: Question, ask: Ask): Promise<string> {
  const hint = fallback === undefined || fallback === "" ? "" : ` [${fallback}]`;
  for (;;) {
    const answer = (await ask(`${text}${hint}: `)).trim() || fallback;
    if (answer === "") return "";
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

const CONFIG = v.record(v.string(), v.unknown());
const configOf = async (model: string) => readJson(await openDirectory(model), "config.json", CONFIG);

const DEFAULT_LENGTH = Number(TRAIN.maxLength.fallback);
/** Tokens of a row at most, where a longer model is not told otherwise. */
const LONGEST = 2048;

/** The file. @throws UsageError for what is missing; what the model, the data, the adapter and the budget refuse. */
async function fileText(path: string, answers: Answers): Promise<string> {
  const model = await answers.to({
    name: "model",
    text: "Directory of the model, as from the Hugging Face Hub",
    async check(place) {
      await checkPath("--model", place, { kind: "directory" });
      createModel(await configOf(place));
    },
  });
  const config = await configOf(model);
  const data = await answers.to({
    name: "data",
    text: "Directory with the data, or its training file",
    check: (place) => checkPath("--data", place, { kind: "file" }),
  });
  await using rows = await FirstRows.open(data, { path: model, config });
  const task = await taskOf(rows, data, answers);
  const settings = await settingsOf(rows, task, answers);
  const network = await rows.modelFor(task);
  const ofRows = network.image ? undefined : await lengthOf(rows, { task, settings, model: network });
  const { dev } = await rows.read(task, { ...settings, maxLength: ofRows?.maxLength ?? Infinity });
  const objective = task === "dpo" ? dpo() : undefined;
  const adapterFor = (kind: string): Adapter => fittingAdapter(kind, { model: network, objective });
  const fitting: string[] = [];
  for (const kind of ADAPTER_KINDS) if (await ifAllowed(() => adapterFor(kind))) fitting.push(kind);
  const kind = await answers.to({
    name: "adapter",
    text: `Adapter (${fitting.join(", ")})`,
    fallback: String(TRAIN.adapter.fallback),
    check: adapterFor,
  });
  const adapter = adapterFor(kind);
  const lengths = ofRows && behind(adapter, network, ofRows);
  const memoryBudget = await answers.to({
    name: "memoryBudget",
    text: "GPU memory to fit into, such as 8GB (empty: no limit)",
    fallback: "",
    check(budget) {
      const bytes = INIT.memoryBudget.read(budget, "--memory-budget")!;
      const batch = Number(TRAIN.batch.fallback) * (objective?.rowsTogether ?? 1);
      const length = lengths && { length: lengths.maxLength };
      fitMemoryBudget({ config: network.config, adapter, batch, loss: objective, ...length }, bytes);
    },
  });
  const ranked = RANKED.includes(kind) ? v.parse(RANK, adapter.peftConfig(network)) : undefined;
  const isFull = kind === "full";
  const defaultRate = Number(TRAIN.lr.fallback);
  const sections: readonly Section[] = [
    {
      title: "What is trained, on what",
      set: { model, task, data, ...settings, out: answers.given("out") ?? "adapter" },
      why: { eachAnswer: "the chat template writes answers of these rows in another way once the chat goes on" },
      examples: { baseModel: "OWNER/NAME", ...(isDivided(task) && { split: "half-dev" }), examples: 1000 },
    },
    {
      title: "The adapter",
      set: { adapter: kind, ...(ranked && { rank: ranked.r, alpha: ranked.lora_alpha }) },
      examples: ranked ? { dropout: 0.05, targets: "all-linear" } : {},
    },
    {
      title: "Training",
      set: {
        epochs: TRAIN.epochs.fallback,
        batch: TRAIN.batch.fallback,
        ...(lengths && { maxLength: lengths.maxLength }),
        lr: isFull ? FULL_RATE : defaultRate,
        schedule: TRAIN.schedule.fallback,
        seed: TRAIN.seed.fallback,
      },
      why: {
        ...(lengths?.why !== undefined && { maxLength: lengths.why }),
        ...(isFull && {
          lr: `the default, ${defaultRate}, is an adapter's, and too high for weights that were trained`,
        }),
      },
      examples: {
        warmupRatio: 0.05,
        weightDecay: 0.01,
        accumulate: 4,
        ...(dev && { evalEvery: 100, patience: 3 }),
      },
    },
    {
      title: "Memory",
      set: memoryBudget === "" ? {} : { memoryBudget, fit: true },
      examples:
        memoryBudget === ""
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

/** A rate for all weights, as in BERT's own fine-tuning. */
const FULL_RATE = 2e-5;

/** Adapters of a rank and an alpha. */
const RANKED: readonly string[] = ["lora", "dora"];
const RANK = v.looseObject({ r: v.number(), lora_alpha: v.number() });

/** A task that can read the data: the one that is given, the only one, or one of several. */
async function taskOf(rows: FirstRows, data: string, answers: Answers): Promise<string> {
  const task = answers.given("task");
  if (task !== undefined) {
    const refusal = await rows.refusalOf(task);
    if (refusal) throw new UsageError(`--task ${task}: ${refusal.fact}`, refusal.remedy, { cause: refusal });
    return task;
  }
  const { names, refusal } = await rows.tasks();
  const [first, second] = names;
  if (first === undefined) {
    throw new UsageError(
      `No task reads the data at ${data}${refusal ? `: ${refusal.fact}` : "."}`,
      refusal?.remedy ?? "Name files as a task does (guide: own data), or load them with a --plugin of train.",
    );
  }
  if (second === undefined) {
    process.stderr.write(`task ${first}, the one that reads these data with this model\n`);
    return first;
  }
  return answers.to({
    name: "task",
    text: `Task, of those that read these data with this model (${names.join(", ")})`,
    remedy: `Give one of those that read these data with this model: ${names.join(", ")}.`,
    check: (name) => oneOf(names)(name, "--task"),
  });
}

/**
 * How chats are written: by the model's template, where it can write the rows, by one that is given, or in plain roles.
 * @throws UsageError where the template cannot write the rows, and no other is given.
 */
async function settingsOf(
  rows: FirstRows,
  task: string,
  answers: Answers,
): Promise<Pick<RowSettings, "chatTemplate" | "eachAnswer">> {
  /** What is needed beside a template, or why it cannot write the rows. */
  const tried = async (chatTemplate?: string): Promise<{ eachAnswer?: boolean; refusal?: SafetapeError }> => {
    const refusal = await rows.refusalOf(task, { chatTemplate });
    if (!refusal) return {};
    const isWrittenEach = task === "chat" && !(await rows.refusalOf(task, { chatTemplate, eachAnswer: true }));
    return isWrittenEach ? { eachAnswer: true } : { refusal };
  };
  const given = answers.given("chatTemplate");
  const { refusal, ...settings } = await tried(given);
  if (!refusal) return { ...(given !== undefined && { chatTemplate: given }), ...settings };
  if (given !== undefined || !answers.isAsking) {
    throw new UsageError(refusal.fact, "Give another --chat-template, or none for plain roles.", { cause: refusal });
  }
  process.stderr.write(`${refusal.fact}\n`);
  let ofAnswer: { readonly eachAnswer?: boolean } = {};
  const chatTemplate = await answers.to({
    name: "chatTemplate",
    text: "Another chat template: a Jinja file, or none for plain roles",
    async check(place) {
      const { refusal: again, ...rest } = await tried(place);
      if (again) throw again;
      ofAnswer = rest;
    },
  });
  return { chatTemplate, ...ofAnswer };
}

/** The length of rows, and why it is not the default of `train`. */
interface RowLength {
  readonly maxLength: number;
  readonly why?: string;
}

/** A length that leaves the model room for what an adapter puts before rows. */
function behind(adapter: Adapter, model: Model, length: RowLength): RowLength {
  const before = tokensBefore(adapter);
  const most = model.maxLength - before;
  if (length.maxLength <= most) return length;
  return { maxLength: most, why: `the longest that the model takes behind the ${before} tokens of the adapter` };
}

/** The first length, from the default of `train` on, that cuts none of the first rows. */
async function lengthOf(
  rows: FirstRows,
  {
    task,
    settings,
    model,
  }: { readonly task: string; readonly settings: Omit<RowSettings, "maxLength">; readonly model: Model },
): Promise<RowLength> {
  const most = Math.min(model.maxLength, LONGEST);
  if (most <= DEFAULT_LENGTH) {
    return { maxLength: most, ...(most < DEFAULT_LENGTH && { why: "the longest that the model takes" }) };
  }
  for (let maxLength = DEFAULT_LENGTH; maxLength < most; maxLength *= 2) {
    const data = await ifAllowed(() => rows.read(task, { ...settings, maxLength }));
    if (!data || data.truncated + (data.dropped ?? 0) > 0) continue;
    return { maxLength, ...(maxLength !== DEFAULT_LENGTH && { why: longer(DEFAULT_LENGTH) }) };
  }
  return { maxLength: most, why: longer(DEFAULT_LENGTH) };
}

const longer = (length: number): string => `the default, ${length}, would cut some of the first rows`;

/** @throws UsageError for an adapter that the model or the loss does not take. */
function fittingAdapter(
  kind: string,
  { model, objective }: { readonly model: Model; readonly objective: Objective | undefined },
): Adapter {
  return blaming({}, { nameOf: String, otherwise: `--adapter ${kind}` }, () => {
    const adapter = makeAdapter({ kind });
    checkFit(adapter, model);
    objective?.check({ model, adapter, memory: {} });
    return adapter;
  });
}

/** Options in a section of the file, by name: a value, or an example in a comment. */
interface Section {
  readonly title: string;
  readonly set: RawOptions;
  /** Why values are not those of `train` by default, by name. */
  readonly why?: Readonly<Record<string, string>>;
  readonly examples?: RawOptions;
}

function sectionText({ title, set, why = {}, examples = {} }: Section, folder: string): string {
  const options: OptionSet = TRAIN;
  const entries = (values: RawOptions, mark: string, from: string): string[] =>
    Object.entries(values).map(([name, value]) => {
      const option = options[name]!;
      const reason = why[name] === undefined ? "" : `; ${why[name]}`;
      return `# ${option.help}${reason}\n${mark}${entryText(option, value, from)}`;
    });
  return [`# --- ${title} ---\n`, ...entries(set, "", folder), ...entries(examples, "#", ".")].join("");
}
