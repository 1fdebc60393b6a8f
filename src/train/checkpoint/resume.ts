import { ConfigError, FileFormatError } from "../../base/errors";
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
  /** What `checkpointExtra` returned when it was written. */
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
  const { checkpoints, resume, checkpointEvery = 1, keepCheckpoints = 1 } = options;
  for (const [name, value] of Object.entries({ checkpointEvery, keepCheckpoints })) {
    const least = name === "keepCheckpoints" ? 1 : 0;
    if (Number.isInteger(value) && value >= least) continue;
    throw new ConfigError(`${name} is ${value}.`, `Give a whole number from ${least}.`);
  }
  if (resume === undefined) {
    const [latest] = checkpoints ? await checkpointSteps(checkpoints) : [];
    if (latest === undefined) return undefined;
    throw new ConfigError(
      `${checkpoints?.name} already has a checkpoint of step ${latest}.`,
      'Give resume: "auto" to continue from it, or another directory, or remove its checkpoints.',
    );
  }
  const directory = resume === "auto" ? checkpoints : resume;
  if (!directory) {
    throw new ConfigError('resume is "auto", but there are no checkpoints.', "Give a directory as `checkpoints`.");
  }
  const latest = await latestCheckpoint(directory, warnBy(options));
  if (latest || resume === "auto") return latest;
  throw new FileFormatError(`There is no checkpoint in ${directory.name}.`, "Check the path, or begin a new run.");
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
    async restoreTensors(state) {
      await state.load(record.masked, (name) => readTensor(checkpoint, name, state.tensor(name)));
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
