import * as v from "valibot";
import { FileFormatError } from "../../base/errors";
import { elements } from "../../base/shape";
import { checkSchema } from "../../io/json";
import type { TensorSpec } from "../../op/declaration";
import { RunHistory, SAVED_FREEZE, SAVED_HISTORY } from "../loop/history";
import type { Merging } from "../freezing/merging";
import type { RunResources } from "../loop/resources";
import type { CheckpointExtra, TrainerOptions } from "../options";
import type { FreezeEvent } from "../loop/reports";
import type { Identity } from "./identity";
import type { BatchQueue } from "../step/batch-queue";

const COUNT = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const SIZE = v.pipe(v.number(), v.safeInteger(), v.minValue(1), v.maxValue(1e8));
const NAMES = v.array(v.string());
const PLACE = v.strictObject({ state: v.optional(v.unknown()), batches: COUNT });
const STRUCTURES = v.array(v.strictObject({ scores: v.array(v.nullable(v.number())), out: v.array(COUNT) }));

/** A run's state but for its tensors. Plain JSON. */
const SAVED_RUN = v.strictObject({
  version: v.literal(1),
  identity: v.record(v.string(), v.string()),
  /** The adapter on which it ran. */
  gpu: v.string(),
  step: COUNT,
  hasBegun: v.boolean(),
  live: NAMES,
  masked: NAMES,
  isMerging: v.boolean(),
  shapes: v.array(v.strictObject({ size: SIZE, length: SIZE })),
  variants: v.array(v.array(COUNT)),
  updates: v.strictObject({
    ages: v.array(v.strictTuple([v.string(), COUNT])),
    structures: v.optional(STRUCTURES),
  }),
  /** What policy and adapter saved. */
  policy: v.optional(v.unknown()),
  adapter: v.optional(v.unknown()),
  /** Where the data were before the run's first batch, and where the next step begins. */
  start: PLACE,
  place: PLACE,
  history: SAVED_HISTORY,
  /** Freezes that no report has told of yet. */
  untold: v.array(SAVED_FREEZE),
  extra: v.optional(v.unknown()),
});
export type CheckpointRecord = v.InferOutput<typeof SAVED_RUN>;

type Values = Float32Array | Int32Array;

/** A tensor of a checkpoint, read when it is asked for. */
export interface KeptTensor {
  readonly shape: readonly number[];
  readonly dtype?: "f32" | "i32";
  readonly read: () => Values | Promise<Values>;
}

/** Everything that decides how a run goes on. */
export interface RunCheckpoint {
  readonly saved: CheckpointRecord;
  readonly tensors: ReadonlyMap<string, KeptTensor>;
}

/** Names in a file, beside those of the run's own tensors. */
const LOSSES = "losses of the steps";
const EXTRA = "extra: ";

/** A run as it is between two steps. */
export interface RunMoment {
  readonly run: RunResources;
  readonly upcoming: Pick<BatchQueue, "place">;
  readonly step: number;
  readonly hasBegun: boolean;
  readonly history: RunHistory;
  readonly untold: readonly FreezeEvent[];
  readonly identity: Identity;
  readonly extra: CheckpointExtra | undefined;
}

/** The state of a run; its tensors are read from the device when they are asked for. */
export function captureRun({ run, upcoming, history, identity, extra = {}, ...stand }: RunMoment): RunCheckpoint {
  const { state, book, updates, options, merging, policy, adapterState } = run;
  const { device } = options.model.engine;
  const saved = {
    version: 1 as const,
    identity,
    gpu: gpuName(options),
    ...stand,
    live: [...state.live.keys()],
    masked: [...state.masked],
    isMerging: isMerging(merging),
    ...book.save(),
    updates: updates.save(),
    policy: policy.state.save?.(),
    adapter: adapterState?.save?.(),
    start: run.start,
    place: upcoming.place,
    history: history.save(device.pool.ledger),
    extra: extra.record,
  };
  const losses = Float32Array.from(history.losses);
  const own = [...state.kept].map(([name, { shape }]): [string, KeptTensor] => [
    name,
    { shape, read: () => state.tensor(name).read() },
  ]);
  const further = [...(extra.tensors ?? [])].map(([name, { shape, data }]): [string, KeptTensor] => [
    `${EXTRA}${name}`,
    { shape, dtype: data instanceof Int32Array ? "i32" : "f32", read: () => data },
  ]);
  return {
    // A copy: what policies and adapters gave may be what they go on with.
    saved: parseRun(JSON.parse(JSON.stringify(saved)), "a run's state"),
    tensors: new Map([...own, [LOSSES, { shape: [losses.length], read: () => losses }], ...further]),
  };
}

const isMerging = (merging: Merging | undefined): boolean => merging?.choice.isOn ?? false;

/** The adapter that a run is on: elsewhere it may round otherwise. */
export const gpuName = ({ model }: Pick<TrainerOptions, "model">): string => {
  const { description, device, architecture } = model.engine.info;
  return [description, device, architecture].find((name) => name !== "") ?? "unknown";
};

/** @throws FileFormatError for what is no saved run. */
export function parseRun(value: unknown, where: string): CheckpointRecord {
  return checkSchema(SAVED_RUN, value, where);
}

/**
 * Refuses a state that is no state of a run that trains these tensors.
 * @throws FileFormatError
 */
export function checkRun({ saved }: RunCheckpoint, live: ReadonlyMap<string, TensorSpec>, layers: number): void {
  const { masked, variants } = saved;
  const isWhole =
    saved.live.length > 0 &&
    saved.live.every((name) => live.has(name)) &&
    masked.every((name) => saved.live.includes(name)) &&
    variants.every((dropped) => dropped.length <= layers);
  if (isWhole) return;
  throw new FileFormatError("The checkpoint names tensors that do not learn in this run.", "Resume from another one.");
}

/** One of a state's own tensors. @throws FileFormatError where it is missing or has another size. */
export async function readKept({ tensors }: RunCheckpoint, name: string, { shape }: TensorSpec): Promise<Float32Array> {
  const found = tensors.get(name);
  const fits = found && found.dtype !== "i32" && elements(found.shape) === elements(shape);
  if (fits) return (await found.read()) as Float32Array;
  throw new FileFormatError(
    `The checkpoint ${found ? "has another size for" : "lacks"} ${JSON.stringify(name)}.`,
    "Resume with the model and the adapter that the run began with, or from another checkpoint.",
  );
}

/** What a state tells of the steps before it. */
export async function historyOf(state: RunCheckpoint): Promise<RunHistory> {
  const { step, history } = state.saved;
  // A step that failed after its update has none.
  const count = Math.min(step, state.tensors.get(LOSSES)?.shape[0] ?? 0);
  const losses = await readKept(state, LOSSES, { shape: [count], dtype: "f32" });
  return new RunHistory(losses, history as unknown as ConstructorParameters<typeof RunHistory>[1]);
}

/** What a program kept of its own. */
export async function extraOf({ saved, tensors }: RunCheckpoint): Promise<CheckpointExtra> {
  const own = [...tensors].filter(([name]) => name.startsWith(EXTRA));
  const read = own.map(async ([name, { shape, read }]) => {
    return [name.slice(EXTRA.length), { shape, data: await read() }] as const;
  });
  return { record: saved.extra, tensors: new Map(await Promise.all(read)) };
}

/** The same state in the host's memory: it stays what it is while the run goes on. */
export async function heldInMemory({ saved, tensors }: RunCheckpoint): Promise<RunCheckpoint> {
  const held = new Map<string, KeptTensor>();
  for (const [name, { shape, dtype = "f32", read }] of tensors) {
    const data = await read();
    held.set(name, { shape, dtype, read: () => data });
  }
  return { saved, tensors: held };
}
