import { ConfigError, FileFormatError } from "../../base/errors";
import { directoryAt } from "../../io/directory-like";
import type { Preflight } from "../estimate/preflight";
import type { RunOrigin } from "../loop/resources";
import { warnBy } from "../loop/warnings";
import type { CheckpointExtra, TrainerOptions } from "../options";
import { checkpointSteps, latestCheckpoint } from "./directory";
import type { CheckpointFile } from "./directory";
import { checkIdentity, runIdentity } from "./identity";
import { checkTensors, gpuName, readExtra, readTensor } from "./record";
import type { RunCheckpoint } from "./record";

/** The checkpoint that a trainer resumed from. */
export interface Resumed {
  readonly file: string;
  /** Optimizer steps done. */
  readonly step: number;
  /** What `checkpoints.extra` returned when it was written. */
  readonly extra: CheckpointExtra;
}

/** What a run resumes from. */
export interface Resumption {
  readonly checkpoint: RunCheckpoint;
  readonly origin: RunOrigin;
  readonly resumed: Resumed;
}

/**
 * What the options ask to resume from; undefined for a new run.
 * @throws ConfigError where a new run would mix its checkpoints with an old one's, FileFormatError where `resume` names a
 * directory without checkpoints, or for a damaged file.
 */
export async function resumption(options: TrainerOptions): Promise<Resumption | undefined> {
  const file = await checkpointToResume(options);
  if (!file) return undefined;
  const { checkpoint } = file;
  const resumed = { file: file.file, step: checkpoint.record.step, extra: await readExtra(checkpoint) };
  return { checkpoint, origin: originOf(file), resumed };
}

/**
 * The checkpoint that the options ask to resume from; undefined for a new run.
 * @throws ConfigError where a new run would mix its checkpoints with an old one's, FileFormatError where `resume` names a
 * directory without checkpoints.
 */
async function checkpointToResume(options: TrainerOptions): Promise<CheckpointFile | undefined> {
  const { directory: place, resume = false, every = 1, keep = 1 } = options.checkpoints ?? {};
  for (const [name, value] of Object.entries({ every, keep })) {
    const least = name === "keep" ? 1 : 0;
    if (Number.isInteger(value) && value >= least) continue;
    throw new ConfigError(`checkpoints.${name} is ${value}.`, `Give a whole number from ${least}.`);
  }
  const directory = place === undefined ? undefined : await directoryAt(place, { create: true });
  if (resume === false) {
    const [latest] = directory ? await checkpointSteps(directory) : [];
    if (latest === undefined) return undefined;
    throw new ConfigError(
      `${directory?.name} already has a checkpoint of step ${latest}.`,
      "Give checkpoints.resume: true to continue from it, or another directory, or remove its checkpoints.",
    );
  }
  const source = resume === true ? directory : await directoryAt(resume);
  if (!source) {
    throw new ConfigError(
      "checkpoints.resume is true, and there is no directory to resume from.",
      "Give checkpoints.directory, or a directory as checkpoints.resume.",
    );
  }
  const latest = await latestCheckpoint(source, warnBy(options));
  if (latest || resume === true) return latest;
  throw new FileFormatError(`There is no checkpoint in ${source.name}.`, "Check the path, or begin a new run.");
}

/** A checkpoint as what a run continues from. @param file its name, for messages. */
export function originOf({ checkpoint, file }: CheckpointFile): RunOrigin {
  const { record } = checkpoint;
  return {
    start: record.start,
    live: new Set(record.live),
    structures: record.updates.structures ?? [],
    async check(run) {
      checkIdentity(await runIdentity(run), record.identity, file);
      const gpu = gpuName(run.options);
      if (gpu === record.gpu) return;
      warnBy(run.options)(`${file} was made on ${record.gpu}; on ${gpu} the run may round differently.`);
    },
    restorePlans: (preflight, layers) => restorePlans(preflight, layers, checkpoint),
    async restoreTensors(state, local) {
      await state.load(record.masked, (name) => readTensor(checkpoint, name, state.tensor(name)));
      await local?.restore(state.live.keys(), async (saved, name) =>
        checkpoint.tensors.has(saved) ? readTensor(checkpoint, saved, state.tensor(name)) : undefined,
      );
    },
    restoreCounts({ updates, policy, adapterState }) {
      updates.restore(record.updates.ages);
      if (record.policy !== undefined) policy.state.restore?.(record.policy);
      if (record.adapter !== undefined) adapterState?.restore?.(record.adapter);
    },
  };
}

function restorePlans({ book, live, merges }: Preflight, layers: number, { record }: RunCheckpoint): void {
  checkTensors(record, live, layers);
  if (merges) merges.isOn = record.isMerging;
  book.restore(record.shapes, new Set(record.computed ?? record.live));
}
