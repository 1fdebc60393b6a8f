import { sha256 } from "../../base/sha256";
import { elements } from "../../base/shape";
import type { Batch } from "../../data/batch";
import type { BatchPart } from "../../data/split";
import { runLength } from "../estimate/run-length";
import { LOSS } from "../plans/optimizer-plan";
import { gradientName } from "../tensors/names";
import type { Share, WorldMember, WorldPart } from "../world";
import { checkFinite } from "./check-finite";
import { gradientRuns } from "./gradient-runs";
import type { StepShare } from "./gradient-runs";
import { holdPlans } from "./optimizer-plans";
import type { OuterOptimizer } from "./outer-optimizer";
import { readTensors, writeTensors } from "./tensors-on-host";
import { limitBook, rowsOf, rowsTogether } from "./rows-of-share";
import type { Step } from "./step";
import type { StepResult, StepRunnerParts } from "./step-runner";

/*
 * Steps whose gradients are on the host's mind before the update: something observes them, or other devices add theirs. Few
 * runs have such steps, which are loaded with the first of them.
 */

/**
 * Computes the gradients, lets their observers read them where they are finite, then applies the update.
 * @param share the part of the step that is this device's own step.
 */
export async function runObserved(parts: StepRunnerParts, step: Step, share?: StepShare): Promise<StepResult> {
  const { executor, updates, state } = parts;
  const norm = updates.normOf(step.droppedLayers)!;
  const { runs, flops } = gradientRuns(parts, step, {
    lossSum: updates.lossSum,
    update: norm,
    ...(share && { share }),
  });
  const gradients = await executor.runAll([...runs, { plan: norm, store: state, inputs: () => ({}) }]);
  const { loss } = checkFinite(updates.readResult(gradients), step);
  return { ...(await update(parts, step, loss)), flops };
}

/** Applies the update to the gradients in the tensors, once their observers have read them. */
async function update({ executor, updates }: StepRunnerParts, step: Step, loss: number) {
  await updates.collectStatistics(executor, "before_update", step.index);
  const outputs = await executor.runAll([updates.run(step.droppedLayers, step.scheduleFactor, loss)]);
  return checkFinite(updates.finish(outputs, step.droppedLayers), step);
}

/**
 * Computes this device's share of the gradients, replaces them by the sum over all devices, and applies the update, which is
 * the same on all of them.
 * @param meanwhile called while the device computes.
 */
export async function runShared(
  parts: StepRunnerParts,
  world: WorldMember,
  step: Step,
  meanwhile: () => void,
): Promise<StepResult> {
  const { executor, updates, state } = parts;
  if (parts.local) return runLocal(parts, world, parts.local, step, meanwhile);
  const names = updates.tensorsOf(step.droppedLayers);
  const gradients = names.map(gradientName);
  const count = names.reduce((sum, name) => sum + elements(state.tensor(name).shape), 0);
  let flops = 0;
  const sum = await world.round({
    sizeOf: () => ({ exact: 1, values: count }),
    async compute(share) {
      await limitRows(parts, share);
      const computed = await shareOfStep(parts, step, share, meanwhile);
      flops = computed.flops;
      const values = flops > 0 ? await readTensors(parts, gradients) : new Float32Array(count);
      return { exact: Float32Array.of(computed.loss), values };
    },
    join: sumOf,
  });
  const loss = sum.exact[0] ?? NaN;
  writeTensors(state, gradients, sum.values);
  const norm = updates.normOf(step.droppedLayers);
  if (norm) {
    const inputs = () => ({ [LOSS]: Float32Array.of(loss) });
    checkFinite(updates.readResult(await executor.runAll([{ plan: norm, store: state, inputs }])), step);
  }
  const result = await update(parts, step, loss);
  if (world.isMixed) {
    const { values } = await world.round({
      sizeOf: () => ({ exact: 0, values: count }),
      join: async () => ({ exact: new Float32Array(), values: await readTensors(parts, names) }),
      isExact: true,
    });
    if (!world.leads) writeTensors(state, names, values);
  }
  world.setDigest(await digestOf(parts));
  return { ...result, flops };
}

/** A step on this device's own rows, by an update of its own. What it changes is exchanged now and then. */
async function runLocal(
  parts: StepRunnerParts,
  world: WorldMember,
  local: OuterOptimizer,
  step: Step,
  meanwhile: () => void,
): Promise<StepResult> {
  const { executor, updates, options, policy } = parts;
  const share = await local.begin(world, parts);
  const startTime = performance.now();
  await limitRows(parts, share);
  const { rows, batchParts } = shareOf(parts, step, share, true);
  const ownStep = { parts: batchParts, ofStep: undefined };
  const result = updates.readsGradientsFirst ? await runObserved(parts, step, ownStep) : await runAlone();
  local.count(rows, performance.now() - startTime);
  const { totalSteps, stepsPerEpoch } = runLength(options);
  const progress = { step: step.index + 1, totalSteps, stepsPerEpoch };
  // A policy's decision is one for all, so that it is made where all have the same tensors.
  const isDecisionDue = policy?.kind === "freezing" && policy.state.isDue(progress);
  if (progress.step % local.settings.every === 0 || progress.step === totalSteps || isDecisionDue) {
    await local.exchange(world, parts);
    world.setDigest(await digestOf(parts));
  }
  return result;

  async function runAlone(): Promise<StepResult> {
    const update = updates.planOf(step.droppedLayers);
    const { runs, flops } = gradientRuns(parts, step, { lossSum: updates.lossSum, update, share: ownStep });
    const all = [...runs, updates.run(step.droppedLayers, step.scheduleFactor)];
    const outputs = await executor.runAll(all, { meanwhile });
    return { ...checkFinite(updates.finish(outputs, step.droppedLayers), step), flops };
  }
}

async function digestOf(parts: StepRunnerParts): Promise<Uint8Array> {
  const live = await readTensors(parts, [...parts.state.live.keys()]);
  return sha256(new Uint8Array(live.buffer));
}

/** Adds up parts in the order of their ranks. */
function sumOf(parts: readonly WorldPart[]): WorldPart {
  const [first, ...others] = parts;
  const sum = { exact: Float32Array.from(first!.exact), values: Float32Array.from(first!.values) };
  for (const { exact, values } of others) {
    exact.forEach((value, i) => (sum.exact[i]! += value));
    for (let i = 0; i < values.length; i++) sum.values[i]! += values[i]!;
  }
  return sum;
}

/** Plans for as many rows as a share of the largest batch has. */
async function limitRows(parts: StepRunnerParts, share: Share): Promise<void> {
  const { book, options } = parts;
  if (limitBook(book, share, options)) await holdPlans(parts);
}

/** Computes the gradients of a share into their tensors. A share without rows computes nothing, and has no FLOPs. */
async function shareOfStep(parts: StepRunnerParts, step: Step, share: Share, meanwhile: () => void) {
  const { updates, executor } = parts;
  const { rows, rowsOfStep, batchParts } = shareOf(parts, step, share);
  if (rows === 0) return { loss: 0, flops: 0 };
  const stepShare = { parts: batchParts, ofStep: rows / rowsOfStep };
  const { runs, flops } = gradientRuns(parts, step, { lossSum: updates.lossSum, share: stepShare });
  const outputs = await executor.runAll(runs, { meanwhile });
  return { loss: outputs.get(LOSS)?.[0] ?? NaN, flops };
}

/**
 * The number of a step's rows that belong to a share, and the parts of its batches that have them.
 * @param isStep whether they are a step of their own: a share without rows then has the nearest that a device can run.
 */
function shareOf({ book, options }: StepRunnerParts, { batches, droppedLayers }: Step, share: Share, isStep = false) {
  const together = rowsTogether(options);
  const rowsOfStep = batches.reduce((sum, batch) => sum + batch.rows, 0);
  let { from, to } = rowsOf(share, rowsOfStep, together);
  if (isStep && from === to) {
    from = Math.min(from, rowsOfStep - together);
    to = from + together;
  }
  const firstRows: number[] = [];
  batches.reduce((sum, batch) => (firstRows.push(sum), sum + batch.rows), 0);
  const batchParts = (batch: Batch, index: number): readonly BatchPart[] => {
    const first = firstRows[index]!;
    const range = { from: Math.max(from - first, 0), to: Math.min(to - first, batch.rows) };
    return range.to > range.from ? book.split(batch, droppedLayers, range) : [];
  };
  return { rows: to - from, rowsOfStep, batchParts };
}
