import type { Adapter } from "../../adapter/adapter";
import type { WeightFormat } from "../../base/packed";
import { sumBytes } from "../../gpu/ledger";
import type { Bytes } from "../../gpu/ledger";
import type { Shape } from "../../base/shape";
import { createModel } from "../../model/families";
import { withWeights } from "../../model/weights";
import { optimizerOf } from "../../optimizer/adamw";
import type { Optimizer } from "../../optimizer/optimizer";
import { explain } from "../../tape/explain";
import type { Explanation } from "../../tape/explain";
import { plan as planTape } from "../../tape/plan";
import type { Plan } from "../../tape/plan";
import { footprint } from "../plans/footprint";
import type { Loss, MemoryOptions, Objective, OptimizerOptions } from "../options";
import { checkPlanKeys } from "./option-keys";
import { checkRecompute, recomputedSections } from "../plans/recompute";
import { sidePlans } from "../plans/side-plans";
import type { SidePlanOptions } from "../plans/side-plans";
import { companionsOf } from "../tensors/names";
import type { Companion } from "../tensors/names";
import { checkTrainable, trainableSpecs } from "../tensors/specs";
import type { TrainableSpec } from "../tensors/specs";
import { trace } from "../plans/trace";
import { DEFAULT_LIMITS } from "../../op/limits";

export interface PredictOptions {
  /** A parsed config.json. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly adapter: Adapter;
  /** Rows of a batch. */
  readonly batch: number;
  /** Tokens per row. Default 128, or as many as the model takes; an image model takes only its own number. */
  readonly length?: number;
  /**
   * Tokens per row of an encoder-decoder's decoder, or that a masked language model predicts. Default as many as the encoder's, and 15 %
   * of them.
   */
  readonly targetLength?: number;
  /** Whether rows hold several texts, see `packSamples`. Default false. */
  readonly packing?: boolean;
  /** How frozen weights are stored. Default f32. */
  readonly weights?: WeightFormat;
  /** What is recomputed rather than kept, and how activations are stored, as a trainer's `memory`. */
  readonly memory?: Pick<MemoryOptions, "recompute" | "activations">;
  /** The run's optimizer: its state counts, and each learning rate is an input of the update. Default AdamW's defaults. */
  readonly optimizer?: Optimizer | OptimizerOptions;
  /** A loss of one's own. Default: the task's. */
  readonly loss?: Loss | Objective | undefined;
  /** Whatever learns below this layer is frozen, embeddings included. Default 0: all learns. */
  readonly freezeBelow?: number;
}

/** What a training step needs of memory and computation. */
export interface Prediction {
  readonly peakBytes: number;
  /** Bytes by lifetime at the peak. */
  readonly bytes: Bytes;
  /** The launch at which the last buffer comes into use: its phase, op and label. */
  readonly peakAt: string;
  readonly parameters: number;
  readonly trainableParameters: number;
  readonly layers: number;
  readonly flops: Plan["flops"];
  /** Sections of the model that are recomputed rather than kept. */
  readonly recomputed: readonly string[];
  readonly explanation: Explanation;
}

/**
 * Predicts what a training step needs from a configuration alone, without weights and without a device. In a page, `await loadFamily(config)` first.
 * @throws ConfigError or ShapeError for an invalid configuration, DataError for rows that are longer than the model takes.
 */
export function plan(options: PredictOptions): Prediction {
  checkPlanKeys(options);
  const { config, adapter, batch: size, freezeBelow = 0, memory = {} } = options;
  const { recompute = "none", activations = "f32" } = memory;
  checkRecompute(recompute);
  const model = withWeights(createModel(config), options.weights ?? "f32");
  checkTrainable(model, adapter);
  if (typeof options.loss === "object") options.loss.check({ model, adapter });
  const length = options.length ?? (model.image ? model.maxLength : Math.min(128, model.maxLength));
  const specs = trainableSpecs(model, adapter);
  const isFrozen = ({ layer = Infinity }: TrainableSpec): boolean =>
    layer === "below" ? freezeBelow > 0 : layer < freezeBelow;
  const live = new Map([...specs].filter(([, spec]) => !isFrozen(spec)));
  const share = model.encoderDecoder ? 1 : model.task === "masked_lm" ? 0.15 : undefined;
  const targetLength = share && (options.targetLength ?? Math.ceil(share * length));
  const traced = trace({
    model,
    adapter,
    batch: { size, length, targetLength, isPacked: options.packing },
    isTraining: true,
    differentiable: true,
    loss: options.loss,
  });
  const { tape, loss } = traced;
  const trainable = new Set(live.keys());
  const stepWith = (sections: ReadonlySet<string>, rebuild = true): Plan =>
    planTape(tape, { outputs: { loss }, loss, trainable, recompute: sections, rebuild, activations });
  const statistics = adapter.statistics ? [adapter.statistics] : [];
  const side: SidePlanOptions = {
    planned: { model },
    adapter,
    optimizer: optimizerOf(options.optimizer),
    statistics,
    pruning: undefined,
    sumsLosses: false,
    variants: undefined,
    limits: DEFAULT_LIMITS,
  };
  const others = live.size > 0 ? sidePlans(side, live, new Set()).all : [];
  const { optimizer } = side;
  const companions = (name: string, shape: Shape): readonly Companion[] =>
    live.has(name) ? companionsOf(name, shape, { optimizer, statistics, isMasked: false }) : [];
  const bytesOf = (step: Plan): Bytes => footprint(model, adapter, [step, ...others], companions);
  const needs = (sections: ReadonlySet<string>): number => sumBytes(bytesOf(stepWith(sections)));
  const sections = recomputedSections(model, recompute, needs);
  const step = stepWith(sections);
  const bytes = bytesOf(step);
  const peak = step.launches[step.peakLaunch];
  const count = (shapes: Iterable<{ readonly shape: readonly number[] }>): number =>
    [...shapes].reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
  return {
    peakBytes: sumBytes(bytes),
    bytes,
    peakAt: peak ? `${peak.phase} of ${peak.node.op.name} at ${peak.node.label}` : "the first launch",
    parameters: count(model.parameters.filter(({ isBuffer }) => !isBuffer)),
    trainableParameters: count(live.values()),
    layers: model.layers,
    flops: step.flops,
    recomputed: [...sections],
    explanation: explain(tape, step, step.rebuilt.length > 0 ? stepWith(sections, false) : step),
  };
}
