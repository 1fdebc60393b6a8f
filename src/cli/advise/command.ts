import * as v from "valibot";
import { makeAdapter } from "../../adapter/make";
import { ConfigError, DataError, MemoryBudgetError } from "../../base/errors";
import { readJson } from "../../io/json";
import { createModel, withHead } from "../../model/families";
import { openDirectory } from "../../node/directory";
import { dpo } from "../../preference/dpo";
import { describeChoice, fitMemoryBudget } from "../../train/estimate/fit-memory-budget";
import { plan } from "../../train/estimate/predict";
import type { PredictOptions } from "../../train/estimate/predict";
import { ADVISE } from "../flags";
import { readOptions, UsageError } from "../options";
import type { Print, RawOptions, Values } from "../options";
import { bareHead, TASKS } from "../tasks/tasks";
import { adviceFor, amountOf, METHODS, notesFor, SOURCE } from "./framework";
import type { Advice, MethodName, Need } from "./framework";

/** What a method needs on a model, by plan. Without `peakBytes` it cannot be used there. */
interface MethodBytes {
  readonly peakBytes: number | undefined;
  readonly trainable: number | undefined;
  /** Whether it fits into the memory as it is; undefined where no memory is given. */
  readonly fits: boolean | undefined;
  /** How it fits otherwise, or why it does not. */
  readonly how: string | undefined;
}

/** `safetape advise`: which method for a task, an amount of data and a memory. It plans, and needs neither weights nor a GPU. */
export async function adviseCommand(raw: RawOptions, print: Print): Promise<void> {
  const options = readOptions(ADVISE, raw);
  const { task, examples, memoryBudget: memory, model, priority, json } = options;
  if (!TASKS.includes(task)) throw new UsageError(`--task is ${task}.`, `It may be ${TASKS.join(", ")}.`);
  if (memory !== undefined && model === undefined) {
    throw new UsageError("--memory-budget needs --model.", "Give a directory with the model's config.json.");
  }
  const amount = amountOf(examples);
  const advice = adviceFor(amount).filter(({ need }) => priority === undefined || need === priority);
  const workload = model === undefined ? undefined : await workloadOf(model, options);
  const bytes = workload && bytesOf(workload, memory);
  const fallback = adviceFor(amount).find(({ need }) => need === "memory")!;
  const entries = advice.map((entry) => {
    const use = bytes && (firstThatFits(entry, bytes) ?? firstThatFits(fallback, bytes));
    return { ...entry, source: SOURCE, use };
  });
  if (memory !== undefined && entries.every(({ use }) => use === undefined)) throw nothingFits(workload!, memory);
  const notes = notesFor(amount);
  if (json) {
    print(JSON.stringify({ task, examples, amount, advice: entries, bytes, notes }));
    return;
  }
  print(`${examples} examples are ${amount === "medium" ? "a medium amount" : amount}, in the terms of ${SOURCE}.`);
  for (const { need, methods, reason, use } of entries) {
    print("");
    print(`${WORDS[need]}: ${methods.join(", ")}`);
    print(`  ${reason}`);
    for (const method of bytes ? methods : []) print(`  ${methodLine(method, bytes!)}`);
    if (bytes && need === "memory") print(`  ${leastBytes(bytes)}`);
    if (!use || use === methods[0]) continue;
    const isAmong = methods.includes(use);
    print(isAmong ? `  Use ${use}: it is the first of them that fits.` : `  None of them fits. ${use} does.`);
  }
  print("");
  for (const note of notes) print(note);
  if (bytes)
    print("Bytes are peaks by this engine's plan. The study's own reasons are numbers of parameters, not bytes.");
}

const WORDS = {
  score: "For the best score",
  time: "Where time is short",
  memory: "Where memory is short",
  parameters: "For fewer parameters",
} as const satisfies Readonly<Record<Need, string>>;

type Workload = Omit<PredictOptions, "adapter">;

const CONFIG = v.record(v.string(), v.unknown());

async function workloadOf(path: string, { task, batch, length }: Values<typeof ADVISE>): Promise<Workload> {
  const config = await readJson(await openDirectory(path), "config.json", CONFIG);
  const withTask = withHead(config, await bareHead(task));
  createModel(withTask); // Throws where the model cannot have such a head.
  const sized = { config: withTask, ...(length !== undefined && { length }) };
  // A pair of answers is two rows.
  return task === "dpo" ? { ...sized, batch: 2 * batch, loss: dpo() } : { ...sized, batch };
}

type BytesByMethod = Readonly<Record<MethodName, MethodBytes>>;

function bytesOf(workload: Workload, memory: number | undefined): BytesByMethod {
  const entries = Object.entries(METHODS).map(([name, choice]) => [name, methodBytes(workload, choice, memory)]);
  // The entries are those of METHODS.
  return Object.fromEntries(entries) as BytesByMethod;
}

function methodBytes(
  workload: Workload,
  choice: (typeof METHODS)[MethodName],
  memory: number | undefined,
): MethodBytes {
  const request = { ...workload, adapter: makeAdapter(choice) };
  try {
    const { peakBytes, trainableParameters: trainable } = plan(request);
    const fits = memory === undefined ? undefined : peakBytes <= memory;
    const how = memory !== undefined && fits === false ? howItFits(request, memory) : undefined;
    return { peakBytes, trainable, fits, how };
  } catch (error) {
    // A method that this family cannot have, such as prompts before images, or rows too long with virtual tokens.
    if (!(error instanceof ConfigError || error instanceof DataError)) throw error;
    return { peakBytes: undefined, trainable: undefined, fits: false, how: error.fact };
  }
}

function howItFits(request: PredictOptions, memory: number): string {
  try {
    return `fits with ${describeChoice(fitMemoryBudget(request, memory))}`;
  } catch (error) {
    if (!(error instanceof MemoryBudgetError)) throw error;
    return `needs at least ${error.neededBytes} bytes`;
  }
}

const isUsable = ({ fits, how }: MethodBytes): boolean => fits !== false || (how?.startsWith("fits ") ?? false);

/** The first method that fits as it is, or else in fewer bits. */
function firstThatFits({ methods }: Advice, bytes: BytesByMethod): MethodName | undefined {
  return methods.find((name) => bytes[name].fits !== false) ?? methods.find((name) => isUsable(bytes[name]));
}

/** Which method needs the fewest bytes, in a sentence. */
function leastBytes(bytes: BytesByMethod): string {
  const planned = Object.entries(bytes).flatMap(([name, { peakBytes }]) =>
    peakBytes === undefined ? [] : [{ name, peakBytes }],
  );
  const [least] = planned.sort((a, b) => a.peakBytes - b.peakBytes);
  return least
    ? `Of all methods here ${least.name} needs the fewest bytes: ${least.peakBytes}.`
    : "No method can be planned.";
}

/** The smallest budget with which any method of the study runs. */
function nothingFits(workload: Workload, memory: number): MemoryBudgetError {
  const needed = Object.values(METHODS).flatMap((choice) => {
    try {
      fitMemoryBudget({ ...workload, adapter: makeAdapter(choice) }, memory);
      return [];
    } catch (error) {
      return error instanceof MemoryBudgetError ? [error] : [];
    }
  });
  const least = Math.min(...needed.map(({ neededBytes }) => neededBytes));
  return new MemoryBudgetError(
    `No method of the study fits into ${memory} bytes on this model; the least is ${least}.`,
    `Give at least ${least} bytes, or use a smaller model, batch or length.`,
    least,
    memory,
  );
}

function methodLine(name: MethodName, bytes: BytesByMethod): string {
  const { peakBytes, trainable, fits, how } = bytes[name];
  if (peakBytes === undefined) return `${name}: not on this model. ${how ?? ""}`;
  const verdict = fits === undefined ? "" : fits ? ", fits" : `; ${how ?? ""}`;
  return `${name}: ${trainable} trainable parameters, ${peakBytes} bytes${verdict}`;
}
