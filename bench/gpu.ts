import { spawn } from "node:child_process";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Engine } from "../src/engine";
import { createEngine } from "../src/node/index";
import { ceiling } from "./ceiling";
import { freeze } from "./freeze";
import { ops } from "./ops";
import { peers } from "./peers";
import { STEP_VARIABLE } from "./peers/step";
import { DEADLINE_VARIABLE } from "./support/deadline";
import { isProgram } from "./support/main";
import { adapterName, round, writeResults } from "./support/results";
import { variants } from "./variants";

/** A part of the bench, which is a process of its own, so that one that hangs or crashes takes no other with it. */
interface Part {
  readonly run: (engine: Engine) => Promise<void>;
  /** Seconds after which it begins no new measurement. */
  readonly seconds: number;
}

/** What is measured on a GPU, in order. Together they take less than eight minutes. */
const PARTS = {
  variants: { run: variants, seconds: 60 },
  ceiling: { run: ceiling, seconds: 20 },
  ops: { run: ops, seconds: 80 },
  peers: { run: peers, seconds: 150 },
  freeze: { run: freeze, seconds: 50 },
} as const satisfies Record<string, Part>;

/** Seconds that a part may take beyond its deadline, for the measurement that it is in. */
const GRACE_SECONDS = 20;

/** Shares of the measured ceilings, and the lead over TensorFlow.js, that kernels are meant to reach on a GPU. */
const TARGETS = { product: 0.7, attention: 0.5, memory: 0.8, step: 4 };

/** Checks every kernel variant on this machine's adapter and measures it there, then compares the figures with the targets. */
async function gpu(engine: Engine): Promise<void> {
  const start = Date.now();
  const outcomes: Record<string, string> = {};
  for (const [name, { seconds }] of Object.entries(PARTS)) {
    console.log(`\n${name}, up to ${seconds} s`);
    outcomes[name] = await withLeftOut(engine, name, start, await runPart(name, seconds, engine.info.isSoftware));
    console.log(`${name}: ${outcomes[name]}`);
  }
  const targets = await compareWithTargets(engine, start);
  console.table(targets);
  await writeResults(engine, "gpu", { parts: outcomes, targets });
  if (Object.values(outcomes).some((outcome) => outcome !== "done")) process.exitCode = 1;
}

/** The outcome of a part, with how many measurements it left out because its seconds were over. */
async function withLeftOut(engine: Engine, name: string, start: number, outcome: string): Promise<string> {
  const leftOut = (await readPart(engine, name, start))?.["left out for want of time"] ?? [];
  return leftOut.length > 0 ? `${outcome}, ${leftOut.length} measurements left out for want of time` : outcome;
}

/** Runs a part in a process of its own. Resolves with "done" or what went wrong. */
function runPart(name: string, seconds: number, isSoftware: boolean): Promise<string> {
  const env = {
    ...process.env,
    [DEADLINE_VARIABLE]: String(Date.now() + 1000 * seconds),
    ...(!isSoftware && { [STEP_VARIABLE]: "bert-base" }),
  };
  const child = spawn(process.execPath, [...process.execArgv, process.argv[1]!, name], { env, stdio: "inherit" });
  const limit = setTimeout(() => child.kill("SIGKILL"), 1000 * (seconds + GRACE_SECONDS));
  return new Promise((resolve) => {
    const end = (outcome: string): void => {
      clearTimeout(limit);
      resolve(outcome);
    };
    child.on("error", ({ message }) => end(message));
    child.on("exit", (code, signal) => {
      if (signal === "SIGKILL") end(`stopped after ${seconds + GRACE_SECONDS} s`);
      else end(code === 0 ? "done" : `ended with ${signal ?? `code ${code ?? "none"}`}`);
    });
  });
}

interface Target {
  readonly what: string;
  readonly reached: number | string;
  readonly target: number;
  readonly met: boolean;
}

/** What `writeResults` wrote for a part. */
interface Written {
  readonly "left out for want of time"?: readonly string[];
  readonly results?: unknown;
}

/** The results of a part that were written since `start`; undefined if there are none. */
async function readPart(engine: Engine, name: string, start: number): Promise<Written | undefined> {
  const file = join("bench", "results", `${name}-${adapterName(engine)}.json`);
  const changed = await stat(file).catch(() => undefined);
  if (!changed || changed.mtimeMs < start) return undefined;
  return JSON.parse(await readFile(file, "utf8").catch(() => "{}")) as Written; // written by `writeResults`
}

/**
 * The least favourable figure of each target, from the results that the parts have written, also those that were stopped. Results
 * of an earlier run do not count.
 * @param start when this run began, in milliseconds since 1970.
 */
async function compareWithTargets(engine: Engine, start: number): Promise<Target[]> {
  // What a part writes.
  const read = async <T>(name: keyof typeof PARTS): Promise<T | undefined> =>
    (await readPart(engine, name, start))?.results as T | undefined;
  const [rates] = (await read<{ "GFLOP/s": number }[]>("ceiling")) ?? [];
  const { workloads = [] } = (await read<{ workloads: PeerRow[] }>("peers")) ?? {};
  const rows = (await read<OpRow[]>("ops")) ?? [];
  const rate = rates?.["GFLOP/s"] ?? NaN;
  const ours = (pattern: RegExp): number[] =>
    workloads
      .filter(({ workload }) => pattern.test(workload))
      .map(({ engines }) => (engines["safetape"]?.["GFLOP/s"] ?? NaN) / rate);
  const leads = workloads
    .filter(({ workload }) => workload.startsWith("LoRA training step"))
    .map(({ engines }) => (engines["TensorFlow.js"]?.ms ?? NaN) / (engines["safetape"]?.ms ?? NaN));
  const memory = rows.filter(({ op }) => MEMORY_BOUND.has(op)).map((row) => row["of copy rate"] ?? NaN);
  return [
    target("products of 2048 and above, share of the f32 rate", ours(/^product (2048|4096)$/), TARGETS.product),
    target("attention, share of the f32 rate", ours(/^attention/), TARGETS.attention),
    target("memory-bound kernels, share of the copy rate", memory, TARGETS.memory),
    target("LoRA step, times TensorFlow.js's speed", leads, TARGETS.step),
  ];
}

interface PeerRow {
  readonly workload: string;
  readonly engines: Readonly<Record<string, { readonly ms?: number; readonly "GFLOP/s"?: number } | undefined>>;
}

interface OpRow {
  readonly op: string;
  readonly "of copy rate"?: number;
}

/** Ops that do little more than read and write. */
const MEMORY_BOUND: ReadonlySet<string> = new Set([
  "add",
  "adamw",
  "dropout",
  "gelu",
  "layer_norm",
  "mul",
  "rms_norm",
  "silu",
  "swiglu",
]);

function target(what: string, values: readonly number[], least: number): Target {
  const reached = Math.min(...values);
  const isMeasured = values.length > 0 && !Number.isNaN(reached);
  return {
    what,
    reached: isMeasured ? round(reached) : "not measured",
    target: least,
    met: isMeasured && reached >= least,
  };
}

if (isProgram("gpu")) {
  using engine = await createEngine();
  const part = new Map<string, Part>(Object.entries(PARTS)).get(process.argv[2] ?? "");
  await (part?.run ?? gpu)(engine);
}
