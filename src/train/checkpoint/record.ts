import * as v from "valibot";
import { ConfigError, FileFormatError } from "../../base/errors";
import { elements } from "../../base/shape";
import { checkSchema } from "../../io/json";
import type { TensorSpec } from "../../op/declaration";
import { RunHistory, SAVED_FREEZE, SAVED_HISTORY } from "../loop/history";
import type { HistoryTotals } from "../loop/history";
import type { FreezeEvent } from "../loop/reports";
import type { LoopPosition, TrainingLoop } from "../loop/training-loop";
import type { CheckpointExtra, TrainerOptions } from "../options";
import type { RunIdentity } from "./identity";

/** Version of the format that this version of safetape writes, and the only one that it reads. */
const FORMAT_VERSION = 1;

const COUNT = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const SIZE = v.pipe(v.number(), v.safeInteger(), v.minValue(1), v.maxValue(1e8));
const NAMES = v.array(v.string());
const POSITION = v.strictObject({ state: v.optional(v.unknown()), batches: COUNT });
const STRUCTURES = v.array(
  v.strictObject({ scores: v.array(v.nullable(v.number())), out: v.array(COUNT), cut: v.optional(v.array(COUNT), []) }),
);

/** A checkpoint without its tensors. Plain JSON. */
const CHECKPOINT_RECORD = v.strictObject({
  version: v.literal(FORMAT_VERSION),
  /** What the run is, by dotted names. */
  identity: v.record(v.string(), v.string()),
  /** Name of the GPU that the run used. */
  gpu: v.string(),
  step: COUNT,
  hasBegun: v.boolean(),
  live: NAMES,
  /** Tensors whose gradients are computed, where these are more than the live ones. */
  computed: v.optional(NAMES),
  masked: NAMES,
  isMerging: v.boolean(),
  shapes: v.array(
    v.strictObject({ size: SIZE, length: SIZE, targetLength: v.optional(SIZE), isPacked: v.optional(v.boolean()) }),
  ),
  variants: v.array(v.array(COUNT)),
  updates: v.strictObject({
    ages: v.array(v.strictTuple([v.string(), COUNT])),
    structures: v.optional(STRUCTURES),
  }),
  /** State that the policy saved. */
  policy: v.optional(v.unknown()),
  /** State that the adapter saved. */
  adapter: v.optional(v.unknown()),
  /** Position of the data before the first batch of the run. */
  start: POSITION,
  /** Position of the data at the next step. */
  place: POSITION,
  history: SAVED_HISTORY,
  /** Freezes that no step report contains yet. */
  unreportedFreezes: v.array(SAVED_FREEZE),
  /** The program's own data. */
  extra: v.optional(v.unknown()),
});
export type CheckpointRecord = v.InferOutput<typeof CHECKPOINT_RECORD>;

/** A tensor of a checkpoint, read when it is needed. */
export interface CheckpointTensor {
  readonly shape: readonly number[];
  /** Default f32. */
  readonly dtype?: "f32" | "i32";
  readonly read: () => Float32Array | Int32Array | Promise<Float32Array | Int32Array>;
}

/** Everything that decides how a run continues. */
export interface RunCheckpoint {
  readonly record: CheckpointRecord;
  readonly tensors: ReadonlyMap<string, CheckpointTensor>;
}

/** Names of tensors in a file, in addition to those of the run itself. */
const LOSSES = "losses of the steps";
const EXTRA_PREFIX = "extra: ";

/** The checkpoint of a loop between two steps. Tensors are read from the device when they are needed. */
export function captureRun(
  { resources, queue, ...loop }: Pick<TrainingLoop, "resources" | "queue"> & { readonly position: LoopPosition },
  identity: RunIdentity,
  extra: CheckpointExtra = {},
): RunCheckpoint {
  const { state, book, updates, pruner, options, merging, policy, adapterState } = resources;
  const { step, hasBegun, history, unreportedFreezes } = loop.position;
  const record = {
    version: FORMAT_VERSION,
    identity,
    gpu: gpuName(options),
    step,
    hasBegun,
    live: [...state.live.keys()],
    computed: book.live.size > state.live.size ? [...book.live] : undefined,
    masked: [...state.masked],
    isMerging: merging?.choice.isOn ?? false,
    ...book.save(),
    updates: { ages: updates.save(), structures: pruner?.save() },
    policy: policy.state.save?.(),
    adapter: adapterState?.save?.(),
    start: resources.start,
    place: queue.position,
    history: history.save(options.model.engine.device.pool.ledger),
    unreportedFreezes,
    extra: extra.record,
  };
  const tensors = new Map<string, CheckpointTensor>();
  for (const [name, { shape }] of state.persistent) tensors.set(name, { shape, read: () => state.read(name) });
  for (const [name, data] of resources.local?.save() ?? [])
    tensors.set(name, { shape: [data.length], read: () => data });
  const losses = Float32Array.from(history.losses);
  tensors.set(LOSSES, { shape: [losses.length], read: () => losses });
  for (const [name, { shape, data }] of extra.tensors ?? []) {
    const dtype = data instanceof Int32Array ? "i32" : "f32";
    tensors.set(`${EXTRA_PREFIX}${name}`, { shape, dtype, read: () => data });
  }
  // A copy, since policies and adapters may return objects that they continue to change.
  return { record: parseRecord(JSON.parse(JSON.stringify(record)), "the state of a run"), tensors };
}

/** The GPU that a run uses. Other GPUs may round differently. */
export function gpuName({ model }: Pick<TrainerOptions, "model">): string {
  const { description, device, architecture } = model.engine.info;
  return [description, device, architecture].find((name) => name !== "") ?? "unknown";
}

/** @throws FileFormatError for a malformed record, ConfigError for one in the format of another version. */
export function parseRecord(value: unknown, where: string): CheckpointRecord {
  const version = typeof value === "object" && value !== null && "version" in value ? value.version : undefined;
  if (typeof version === "number" && version !== FORMAT_VERSION) {
    throw new ConfigError(
      `${where} was written in version ${version} of the checkpoint format; this safetape reads version ${FORMAT_VERSION}.`,
      "Resume with the safetape that wrote it, or begin a new run.",
    );
  }
  return checkSchema(CHECKPOINT_RECORD, withPresentNames(value), where);
}

/** Earlier files of the same version call the freezes that no report contains `untold`. */
function withPresentNames(value: unknown): unknown {
  if (typeof value !== "object" || value === null || !("untold" in value)) return value;
  const { untold, ...others } = value;
  return { unreportedFreezes: untold, ...others };
}

/**
 * Checks that a checkpoint belongs to a run that trains these tensors of a model with this many layers.
 * @throws FileFormatError
 */
export function checkTensors(
  { live, computed = live, masked, variants }: CheckpointRecord,
  trainable: ReadonlyMap<string, unknown>,
  layers: number,
): void {
  const isValid =
    live.length > 0 &&
    [...live, ...computed].every((name) => trainable.has(name)) &&
    masked.every((name) => live.includes(name)) &&
    variants.every((droppedLayers) => droppedLayers.length <= layers);
  if (isValid) return;
  throw new FileFormatError(
    "The checkpoint was made by a run with other tensors.",
    "Resume from a checkpoint of this run.",
  );
}

/** One of the run's tensors. @throws FileFormatError where it is missing or has another size. */
export async function readTensor(
  { tensors }: RunCheckpoint,
  name: string,
  { shape }: Pick<TensorSpec, "shape">,
): Promise<Float32Array> {
  const tensor = tensors.get(name);
  if (tensor && elements(tensor.shape) === elements(shape)) {
    const values = await tensor.read();
    if (values instanceof Float32Array) return values;
  }
  throw new FileFormatError(
    `The checkpoint ${tensor ? "has another size for" : "lacks"} ${JSON.stringify(name)}.`,
    "Resume with the model and the adapter that the run began with, or from another checkpoint.",
  );
}

/** How far the run had come. @throws FileFormatError where the losses are missing. */
export async function readPosition(checkpoint: RunCheckpoint): Promise<LoopPosition> {
  const { step, hasBegun, history, unreportedFreezes } = checkpoint.record;
  // A step that failed after its update has no loss.
  const lossCount = Math.min(step, checkpoint.tensors.get(LOSSES)?.shape[0] ?? 0);
  const losses = await readTensor(checkpoint, LOSSES, { shape: [lossCount] });
  // The schema checks the members that resuming reads; reports carry the others through.
  return {
    step,
    hasBegun,
    history: new RunHistory(losses, history as unknown as HistoryTotals),
    unreportedFreezes: unreportedFreezes as unknown as readonly FreezeEvent[],
  };
}

/** The program's own data. */
export async function readExtra({ record, tensors }: RunCheckpoint): Promise<CheckpointExtra> {
  const extra = [...tensors].filter(([name]) => name.startsWith(EXTRA_PREFIX));
  const read = extra.map(async ([name, tensor]) => {
    return [name.slice(EXTRA_PREFIX.length), { shape: tensor.shape, data: await tensor.read() }] as const;
  });
  return { record: record.extra, tensors: new Map(await Promise.all(read)) };
}

/** A copy in host memory, which stays as it is while the run continues. */
export async function copyToHost({ record, tensors }: RunCheckpoint): Promise<RunCheckpoint> {
  const copies = new Map<string, CheckpointTensor>();
  for (const [name, { shape, dtype = "f32", read }] of tensors) {
    const data = await read();
    copies.set(name, { shape, dtype, read: () => data });
  }
  return { record, tensors: copies };
}
