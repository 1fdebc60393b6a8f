import { parseBytes } from "../base/bytes";
import type { ByteCount } from "../base/bytes";
import { ConfigError, MemoryBudgetError, NotFiniteError } from "../base/errors";
import { Batches } from "../data/batches";
import { bucketLength } from "../data/batch";
import { InferenceStore } from "../generate/weights";
import { sumBytes } from "../gpu/ledger";
import type { LoadedModel } from "../io/load-model";
import { shapeKey } from "../model/model";
import type { BatchSize } from "../model/model";
import { Executor } from "../run/executor";
import { executorBytes } from "../run/footprint";
import { plan } from "../tape/plan";
import type { Plan } from "../tape/plan";
import type { Objective } from "../train/options";
import { weightBytes } from "../train/plans/footprint";
import { batchInputs } from "../train/plans/inputs";
import { halves } from "../train/plans/step-choice";
import { trace } from "../train/plans/trace";
import { answerLosses, checkWritesAnswers } from "./answer-losses";
import type { PreferencePair, ReferencedPair } from "./pairs";

export interface ReferenceOptions {
  /** Pairs that run at the same time. Default 8. */
  readonly size?: number;
  /** Most bytes of GPU memory to use, weights included: fewer pairs run at the same time then. Default: no limit. */
  readonly budget?: ByteCount | undefined;
  /** Called after each batch with the pairs done. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
}

/** A forward pass that gives the negative log-probability of each row's answer. */
const ANSWER_LOSSES: Objective = {
  name: "answer losses",
  settings: {},
  rowsTogether: 1,
  check: () => undefined,
  count: ({ rows }) => rows,
  inputs: () => ({}),
  record(forward, pass) {
    const losses = answerLosses(forward, pass);
    return { loss: losses, logits: losses };
  },
};

const OUTPUT = "answer losses";
const LENGTH_STEP = 8;

/**
 * Pairs with the log-probabilities that a model gives to their answers, by forward passes without an adapter and without dropout. What a
 * model is when it is loaded is DPO's reference: call this before a trainer changes it. A step then needs no second model and no second
 * forward pass; a pair keeps two numbers in host memory. GPU memory is as it was afterwards.
 * @throws ConfigError for a model that does not continue texts, or of which a run has cut parts; MemoryBudgetError where one row does not
 * fit into the budget; NotFiniteError for a log-probability that is not finite.
 */
export async function withReference(
  loaded: LoadedModel,
  pairs: readonly PreferencePair[],
  { size = 8, budget, onProgress }: ReferenceOptions = {},
): Promise<ReferencedPair[]> {
  const { model, engine, fragileNorms } = loaded;
  checkWritesAnswers(model, "DPO");
  if (loaded.isCut) {
    throw new ConfigError(
      `A run that is not over has cut heads or neurons out of ${loaded.source}, so that it is no reference.`,
      "Compute the reference before the trainer is made, or load the model again.",
    );
  }
  // Rows of similar length run together, which saves padding.
  const rows = pairs.flatMap(({ chosen, rejected }) => [chosen, rejected]);
  const order = rows.map((_, row) => row).sort((a, b) => rows[a]!.ids.length - rows[b]!.ids.length || a - b);
  const longest = rows.reduce((most, { ids }) => Math.max(most, ids.length), 1);
  const planOf = ({ size: count, length }: BatchSize): Plan => {
    const options = { model, batch: { size: count, length }, isTraining: false, fragileNorms, loss: ANSWER_LOSSES };
    const { tape, logits } = trace(options);
    return plan(tape, { outputs: { [OUTPUT]: logits }, limits: engine.device.limits });
  };
  const length = bucketLength(longest, Infinity, LENGTH_STEP);
  const bytes = budget === undefined ? Infinity : parseBytes(budget, "The memory budget");
  const together = rowsThatFit({ size: 2 * size, length }, bytes, (shape) => {
    return weightBytes(model) + sumBytes(executorBytes([planOf(shape)]));
  });
  const results = new Float64Array(rows.length);
  using store = await InferenceStore.create(loaded, undefined);
  using executor = new Executor(engine.device);
  let held: { readonly key: string; readonly plan: Plan } | undefined;
  let done = 0;
  const sorted = order.map((row) => rows[row]!);
  const shape = { size: together, multiple: LENGTH_STEP, maxLength: length, padId: model.padId };
  for (const batch of new Batches(sorted, { ...shape, labels: "token", shuffle: false }).restOfEpoch()) {
    if (held?.key !== shapeKey(batch)) {
      held = { key: shapeKey(batch), plan: planOf(batch) };
      await executor.hold([held.plan]);
    }
    const losses = (await executor.run(held.plan, store, batchInputs(model, batch))).get(OUTPUT)!;
    for (let row = 0; row < batch.rows; row++)
      results[order[done + row]!] = checkFinite(-losses[row]!, order[done + row]!);
    done += batch.rows;
    onProgress?.(done >> 1, pairs.length);
  }
  return pairs.map((pair, i) => ({ ...pair, reference: { chosen: results[2 * i]!, rejected: results[2 * i + 1]! } }));
}

/** As many rows as fit, by halves. @throws MemoryBudgetError where not even one does. */
function rowsThatFit(largest: BatchSize, budget: number, needs: (shape: BatchSize) => number): number {
  if (budget === Infinity) return largest.size;
  let least = Infinity;
  for (const size of halves(largest.size)) {
    const needed = needs({ ...largest, size });
    if (needed <= budget) return size;
    least = Math.min(least, needed);
  }
  throw new MemoryBudgetError(
    `The reference's log-probabilities need ${least} bytes, row by row; the budget is ${budget}.`,
    `Give at least ${least} bytes, or shorter rows.`,
    least,
    budget,
  );
}

function checkFinite(value: number, row: number): number {
  if (Number.isFinite(value)) return value;
  throw new NotFiniteError(
    `The reference's log-probability of the ${row % 2 === 0 ? "chosen" : "rejected"} answer of pair ${(row >> 1) + 1} is ${value}.`,
    "Check the weights of the model.",
    row >> 1,
    { what: "log-probability", value },
  );
}
