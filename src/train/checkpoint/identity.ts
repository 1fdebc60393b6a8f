import { sha256Hex } from "../../base/sha256";
import { ConfigError } from "../../base/errors";
import type { Batch } from "../../data/batch";
import type { LoadedModel } from "../../io/load-model";
import { oneLine } from "../../io/json";
import type { RunResources } from "../loop/resources";
import { optimizerSettings } from "../plans/optimizer-plan";
import { runLength } from "../estimate/run-length";
import type { TrainerOptions } from "../options";
import { fixedSpecs, trainableSpecs } from "../tensors/specs";
import { budgetOf } from "../plans/step-choice";

/** What a run is, by dotted names: a checkpoint is resumed only by the run that it belongs to. */
export type Identity = Readonly<Record<string, string>>;

/** What tells, with the data's first batch and where they were before it. */
export type IdentityParts = Pick<RunResources, "options" | "first" | "start">;

/** Weights whose values are looked at, to tell models of one configuration apart. */
const SAMPLED = 16;

/** Says what a run is. Reads a few small weights. */
export async function identityOf({ options, first, start }: IdentityParts): Promise<Identity> {
  const { model: loaded, adapter, policy, data, probe } = options;
  const { totalSteps, accumulate } = runLength(options);
  const { noDecay, ...optimizer } = optimizerSettings(options.optimizer);
  const { type = "linear", warmupSteps, warmupRatio = 0 } = options.schedule ?? {};
  // What AdaLoRA writes into a file depends on how far a run is.
  const { total_step: _, ...config } = adapter.peftConfig(loaded.model);
  const { epoch: _epoch, position: _position, ...source } = (start.state ?? {}) as Record<string, unknown>;
  const budget = budgetOf(options);
  const specs = [...trainableSpecs(loaded.model, adapter), ...fixedSpecs(loaded.model, adapter)].map(
    ([name, { shape }]) => [name, shape],
  );
  const told = {
    model: { ...loaded.model.config, formats: formatsOf(loaded), weights: await weightsDigest(options) },
    adapter: { kind: adapter.kind, ...config, tensors: await digest(JSON.stringify(specs)) },
    data: { batches: data.perEpoch, ...source, shapes: data.shapes?.(), first: await batchDigest(first) },
    steps: totalSteps,
    accumulate,
    microBatch: options.microBatch,
    recompute: options.recompute,
    activations: options.activations ?? "f32",
    labelSmoothing: options.labelSmoothing ?? 0,
    dropout: options.dropout ?? true,
    mergeOnFreeze: options.mergeOnFreeze ?? false,
    seed: options.seed ?? 0,
    memoryBudget: Number.isFinite(budget) ? budget : undefined,
    optimizer: { ...optimizer, noDecay: noDecay?.source },
    schedule: { type, warmup: warmupSteps ?? Math.ceil(warmupRatio * totalSteps) },
    policy: { name: policy?.name ?? "never", ...policy?.settings },
    probe: probe && (await batchDigest(probe)),
  };
  return Object.fromEntries(flat(JSON.parse(JSON.stringify(told)) as Record<string, unknown>));
}

/** @throws ConfigError naming what differs. */
export function checkIdentity(own: Identity, saved: Identity, where: string): void {
  const names = [...new Set([...Object.keys(own), ...Object.keys(saved)])];
  const different = names.filter((name) => own[name] !== saved[name]);
  if (different.length === 0) return;
  const [first = "", ...rest] = different;
  const others = rest.length > 0 ? `; ${rest.slice(0, 5).join(", ")} differ as well` : "";
  throw new ConfigError(
    `${where} is of another run: ${oneLine(first)} is ${told(own[first])}, there ${told(saved[first])}${oneLine(others)}.`,
    "Resume with the options, model and data that the run began with, or begin a new run elsewhere.",
  );
}

const told = (value: string | undefined): string => (value === undefined ? "not set" : oneLine(value).slice(0, 80));

/** Leaves of nested objects by dotted name, as JSON. */
function flat(value: Record<string, unknown>, prefix = ""): [string, string][] {
  return Object.entries(value).flatMap(([key, own]): [string, string][] => {
    const isNested = typeof own === "object" && own !== null && !Array.isArray(own);
    if (isNested) return flat(own as Record<string, unknown>, `${prefix}${key}.`);
    return [[`${prefix}${key}`, JSON.stringify(own)]];
  });
}

/** How many weights are stored in each format. */
function formatsOf({ model }: LoadedModel): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { dtype = "f32" } of model.parameters) counts[dtype] = (counts[dtype] ?? 0) + 1;
  return counts;
}

/** Some vectors of the model as it was loaded, norms and biases; nothing where training changes them in place. */
async function weightsDigest({ model: loaded, adapter }: TrainerOptions): Promise<string | undefined> {
  if (adapter.trainsInPlace) return undefined;
  const isHead = (name: string): boolean => loaded.model.heads.some((head) => name.startsWith(`${head}.`));
  const small = loaded.model.parameters.filter(({ name, shape }) => shape.length === 1 && !isHead(name));
  const every = Math.max(1, Math.floor(small.length / SAMPLED));
  const parts: string[] = [];
  for (const { name } of small.filter((_, i) => i % every === 0)) {
    const data = await loaded.weights.get(name)?.read();
    if (data) parts.push(`${name} ${await sha256Hex(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))}`);
  }
  return digest(parts.join("\n"));
}

async function batchDigest({ size, length, inputIds, labels, pixels }: Batch): Promise<string> {
  const arrays = [inputIds, labels, ...(pixels ? [pixels] : [])];
  const parts = arrays.map((array) => sha256Hex(new Uint8Array(array.buffer, array.byteOffset, array.byteLength)));
  return digest(`${size} x ${length}: ${(await Promise.all(parts)).join()}`);
}

const digest = async (text: string): Promise<string> => (await sha256Hex(new TextEncoder().encode(text))).slice(0, 32);
