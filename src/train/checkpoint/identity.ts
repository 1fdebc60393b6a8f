import { ConfigError } from "../../base/errors";
import { sha256Hex } from "../../base/sha256";
import type { Batch } from "../../data/batch";
import { oneLine } from "../../io/json";
import type { LoadedModel } from "../../io/load-model";
import { isInHead, shapeKey } from "../../model/model";
import { optimizerOf } from "../../optimizer/adamw";
import { optimizerRecord } from "../../optimizer/settings";
import { runLength } from "../estimate/run-length";
import type { RunResources } from "../loop/resources";
import type { ScheduleOptions, TrainerOptions } from "../options";
import { probeBatches } from "../plans/comparison-trace";
import { budgetBytes } from "../plans/step-choice";
import { fixedSpecs, trainableSpecs } from "../tensors/specs";

/** What a run is: options, model, data and adapter, by dotted names. A checkpoint is resumed only by the run it belongs to. */
export type RunIdentity = Readonly<Record<string, string>>;

/** Number of weights whose values are compared, to tell apart models of one configuration. */
const SAMPLED_WEIGHTS = 16;

/** What the identity of a run is computed from. */
export type IdentityParts = Pick<RunResources, "options" | "first" | "start"> &
  Partial<Pick<RunResources, "compaction">>;

/** Computes the identity of a run. Reads a few small weights from the device. */
export async function runIdentity({ options, first, start, compaction }: IdentityParts): Promise<RunIdentity> {
  const { model: loaded, adapter, policy, data, probe, memory = {} } = options;
  const { totalSteps, accumulate } = runLength(options);
  const { schedule = {} } = options;
  // AdaLoRA's total_step is written when a file is saved, and changes during a run.
  const { total_step: _, ...adapterConfig } = adapter.peftConfig(loaded.completeModel);
  const { epoch: _epoch, position: _position, ...dataState } = stateRecord(start.state);
  const budget = budgetBytes(memory);
  const { completeModel } = loaded;
  const specs = [...trainableSpecs(completeModel, adapter), ...fixedSpecs(completeModel, adapter)];
  const shapes = specs.map(([name, { shape }]) => [name, shape]);
  const identity: Record<string, unknown> = {
    model: { ...loaded.model.config, formats: formatCounts(loaded), weights: await weightsDigest(options, compaction) },
    adapter: { kind: adapter.kind, ...adapterConfig, tensors: await digest(JSON.stringify(shapes)) },
    data: { batches: data.perEpoch, ...dataState, shapes: data.shapes?.(), first: await batchDigest(first) },
    steps: totalSteps,
    accumulate,
    microBatch: memory.microBatch,
    recompute: memory.recompute,
    activations: memory.activations ?? "f32",
    labelSmoothing: options.labelSmoothing ?? 0,
    dropout: options.dropout ?? true,
    mergeOnFreeze: options.mergeOnFreeze ?? false,
    seed: options.seed ?? 0,
    memoryBudget: Number.isFinite(budget) ? budget : undefined,
    optimizer: optimizerRecord(optimizerOf(options.optimizer)),
    schedule: typeof schedule === "function" ? { type: schedule.name } : scheduleRecord(schedule, totalSteps),
    loss: typeof options.loss === "function" ? options.loss.name : options.loss,
    policy: { name: policy?.name ?? "never", ...policy?.settings },
    probe: probe && (await probeDigest(probe)),
  };
  return Object.fromEntries(flatten(identity));
}

/** A schedule with its defaults, and its warm-up in steps. */
function scheduleRecord(schedule: ScheduleOptions, totalSteps: number): Record<string, unknown> {
  const { type = "linear", warmupSteps, warmupRatio = 0, ...rates } = schedule;
  return { type, warmup: warmupSteps ?? Math.ceil(warmupRatio * totalSteps), ...rates };
}

/** Options that are newer than some checkpoints, with the values by which runs of that time went. */
const FORMER_VALUES: RunIdentity = {
  "adapter.use_dora": "false",
  "optimizer.name": '"adamw"',
  "policy.measure": '"cka"',
  "policy.reference": '"original"',
  "policy.until": '"end"',
};

/** Names of policies in older checkpoints, with those that they have now. */
const RENAMED_POLICIES: Readonly<Record<string, string>> = { '"memory_budget"': '"freeze_to_fit"' };

/** @throws ConfigError naming the options that differ. */
export function checkIdentity(current: RunIdentity, given: RunIdentity, where: string): void {
  const former = Object.entries(FORMER_VALUES).filter(([name]) => name in current);
  const policy = given["policy.name"] ?? "";
  const renamed = { "policy.name": RENAMED_POLICIES[policy] ?? policy };
  const saved: RunIdentity = { ...Object.fromEntries(former), ...given, ...(policy && renamed) };
  const names = [...new Set([...Object.keys(current), ...Object.keys(saved)])];
  const [first, ...others] = names.filter((name) => current[name] !== saved[name]);
  if (first === undefined) return;
  const also = others.length > 0 ? `; ${others.slice(0, 5).join(", ")} differ as well` : "";
  throw new ConfigError(
    `${where} belongs to a different run: ${oneLine(first)} is ${describe(current[first])} here and ${describe(saved[first])} there${oneLine(also)}.`,
    "Resume with the options, model and data that the run began with, or begin a new run elsewhere.",
  );
}

function describe(value: string | undefined): string {
  return value === undefined ? "not set" : oneLine(value).slice(0, 80);
}

/** The members of a data source's state where it is an object; otherwise none. */
function stateRecord(state: unknown): Record<string, unknown> {
  return typeof state === "object" && state !== null ? { ...state } : {};
}

/** The leaves of nested objects by dotted name, as JSON. Members that JSON leaves out are left out. */
function flatten(value: object, prefix = ""): [string, string][] {
  return Object.entries(value).flatMap(([key, member]: [string, unknown]): [string, string][] => {
    const isNested = typeof member === "object" && member !== null && !Array.isArray(member);
    if (isNested) return flatten(member, `${prefix}${key}.`);
    const json = JSON.stringify(member) as string | undefined; // undefined for functions and undefined, despite its type
    return json === undefined ? [] : [[`${prefix}${key}`, json]];
  });
}

/** How many weights are stored in each format. */
function formatCounts({ model }: LoadedModel): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { dtype = "f32" } of model.parameters) counts[dtype] = (counts[dtype] ?? 0) + 1;
  return counts;
}

/** Digest of some vectors (norms, biases) of the loaded model; undefined where training changes them in place. */
async function weightsDigest(
  { model: loaded, adapter }: TrainerOptions,
  compaction: IdentityParts["compaction"],
): Promise<string | undefined> {
  if (adapter.trainsInPlace) return undefined;
  const vectors = loaded.completeModel.parameters.filter(
    ({ name, shape }) => shape.length === 1 && !isInHead(loaded.model, name),
  );
  const interval = Math.max(1, Math.floor(vectors.length / SAMPLED_WEIGHTS));
  const lines: string[] = [];
  for (const { name } of vectors.filter((_, i) => i % interval === 0)) {
    const data = compaction?.originals.get(name) ?? (await loaded.weights.get(name)?.read());
    if (data) lines.push(`${name} ${await sha256Hex(bytesOf(data))}`);
  }
  return digest(lines.join("\n"));
}

async function batchDigest({ inputIds, labels, pixels, weights, ...shape }: Batch): Promise<string> {
  const arrays = [inputIds, labels, ...(pixels ? [pixels] : []), ...(weights ? [weights] : [])];
  const digests = await Promise.all(arrays.map((array) => sha256Hex(bytesOf(array))));
  return digest(`${shapeKey(shape)}: ${digests.join()}`);
}

/** Of one batch it is the batch's own. */
async function probeDigest(probe: Batch | readonly Batch[]): Promise<string> {
  const digests = await Promise.all(probeBatches(probe).map(batchDigest));
  return digests.length === 1 ? digests[0]! : digest(digests.join());
}

function bytesOf({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

async function digest(text: string): Promise<string> {
  return (await sha256Hex(new TextEncoder().encode(text))).slice(0, 32);
}
