import * as v from "valibot";
import { ConfigError } from "../base/errors";
import { checkSchema } from "../io/json";
import type { PeftConfig } from "../io/peft";
import { headKey } from "../io/peft-keys";
import { entryOf } from "../io/safetensors";
import type { FloatTensor } from "../io/safetensors";
import type { Forward } from "../model/forward";
import type { Projection } from "../model/model";
import { add } from "../ops/add";
import { identityDistance } from "../ops/identity_distance";
import { linear } from "../ops/linear";
import { scale } from "../ops/scale";
import { scaleColumns } from "../ops/scale_columns";
import { swapAxes } from "../ops/swap_axes";
import type { Value } from "../tape/tape";
import type { Adapter, AdapterFile, AdapterRun, AdapterState, LowRankUpdate, Tensors } from "./adapter";
import { AdaloraBudget } from "./adalora-budget";
import { constant, normal } from "./initial";
import { scaledProduct } from "./low-rank";
import { fanInFanOut, lowRankLinear, onProjections } from "./on-projections";
import type { ProjectionAdapter } from "./on-projections";
import { TARGET_KEYS, targetKeys } from "./targets";
import type { LayerChoice, TargetOptions } from "./targets";

export interface AdaloraOptions extends TargetOptions {
  /** Rank r(0) of every module at the start, and the average one at the end. Default 12 and 8. */
  readonly initialRank?: number;
  readonly targetRank?: number;
  /** The update is scaled by alpha / initialRank. Default 8. */
  readonly alpha?: number;
  readonly dropout?: number;
  /** Steps before pruning begins, and steps at the end without it. Default 0 and 0. */
  readonly warmupSteps?: number;
  readonly finalSteps?: number;
  /** Steps between prunings. Default 1. */
  readonly every?: number;
  /** Weight of the orthogonality term. Default 0.5. */
  readonly orthogonality?: number;
}

const COUNT = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const RANK = v.pipe(v.number(), v.safeInteger(), v.minValue(1));
const FINITE = v.pipe(v.number(), v.finite());
const SCHEMA = v.object({
  ...TARGET_KEYS,
  peft_type: v.literal("ADALORA"),
  init_r: v.optional(RANK, 12),
  target_r: v.optional(RANK, 8),
  lora_alpha: v.optional(FINITE, 8),
  lora_dropout: v.optional(v.pipe(FINITE, v.minValue(0), v.maxValue(1)), 0),
  tinit: v.optional(COUNT, 0),
  tfinal: v.optional(COUNT, 0),
  deltaT: v.optional(RANK, 1),
  beta1: v.optional(FINITE, 0.85),
  beta2: v.optional(FINITE, 0.85),
  orth_reg_weight: v.optional(FINITE, 0.5),
  total_step: v.optional(v.nullable(RANK), null),
  rank_pattern: v.optional(v.nullable(v.record(v.string(), v.array(v.boolean()))), null),
  bias: v.optional(v.literal("none"), "none"),
});

type Config = v.InferOutput<typeof SCHEMA>;

/**
 * AdaLoRA (Zhang et al. 2023): y = x W + bias + scale * B (E * (A drop(x))), singular triplets whose E is set to 0 by
 * importance until a budget is met (eq. 9 to 12); a penalty keeps A's rows and B's columns orthonormal (eq. 4).
 *
 * Keeps what LoRA of the initial rank keeps; pruned triplets stay as zeros until the adapter is saved.
 * @throws ConfigError for options that make no sense.
 */
export function adalora(options: AdaloraOptions = {}): Adapter {
  const keys = {
    peft_type: "ADALORA",
    init_r: options.initialRank,
    target_r: options.targetRank,
    lora_alpha: options.alpha,
    lora_dropout: options.dropout,
    tinit: options.warmupSteps,
    tfinal: options.finalSteps,
    deltaT: options.every,
    orth_reg_weight: options.orthogonality,
  };
  const given = Object.fromEntries(Object.entries(keys).filter(([, value]) => value !== undefined));
  const where = "the AdaLoRA configuration";
  return adaloraFromConfig({ ...given, peft_type: "ADALORA", ...targetKeys(options) }, where, options.layers);
}

/** AdaLoRA as an adapter_config.json describes it. @throws FileFormatError for a wrong value. */
export function adaloraFromConfig(told: PeftConfig, where: string, layers?: LayerChoice): Adapter {
  const config = checkSchema(SCHEMA, told, where);
  if (config.target_r > config.init_r) {
    throw new ConfigError(
      `${where}: target_r ${config.target_r} is above init_r ${config.init_r}.`,
      "Pruning only lowers ranks.",
    );
  }
  // PEFT divides by the initial rank, whatever is left of it.
  const factor = config.lora_alpha / (config.init_r + 1e-5);
  const names = (module: string) => ({ a: `${module}.lora_A`, b: `${module}.lora_B`, e: `${module}.lora_E` });
  const adapter: ProjectionAdapter = onProjections({
    kind: "adalora",
    config,
    layers,
    statistics: {
      kind: "weight_gradient",
      beta1: config.beta1,
      beta2: config.beta2,
      when: "after_update",
      applies: (name) => /\.lora_[ABE]$/.test(name),
    },
    tensorsOf(target) {
      const rank = rankOf(config, target.name);
      const { a, b, e } = names(target.name);
      return [normal(a, [rank, target.in], 0.02), normal(b, [target.out, rank], 0.02), constant(e, [rank], 0)];
    },
    linear(forward, site) {
      const { a, b, e } = tensorsOf(forward, site, rankOf(config, site.name));
      const scaled = forward.recorder.apply(scaleColumns, { a: b, b: e }, {});
      return lowRankLinear(forward, site, { a, b: scaled, scale: factor, dropout: config.lora_dropout });
    },
    penalty(forward) {
      const { projections } = adapter.choice(forward.model);
      return config.orth_reg_weight === 0 ? undefined : orthogonality(forward, projections, config);
    },
    // A saved adapter whose ranks are decided has no triplets left to prune.
    ...(config.rank_pattern === null && { start }),
    // PEFT refuses a file without a number of steps, or with one that leaves none to prune in.
    peft: (targets, _model, totalSteps) => ({
      fan_in_fan_out: fanInFanOut(targets),
      total_step: config.total_step ?? Math.max(totalSteps, config.tinit + config.tfinal + 1),
    }),
    toFile: (model, tensors) => fileOf(adapter.peftConfig(model), tensors),
    updates: (model, tensors) =>
      new Map(
        adapter.choice(model).projections.map(({ name }): [string, LowRankUpdate] => {
          const { a, b, e } = names(name);
          const own = (part: string): FloatTensor => entryOf(tensors, part, "the adapter");
          return [name, { a: own(a), b: scaledProduct(own(b), undefined, own(e)), scale: factor }];
        }),
      ),
  });
  return adapter;

  function start(run: AdapterRun): AdapterState {
    const { projections } = adapter.choice(run.model);
    const modules = projections.map(({ name }) => names(name));
    let budget = new AdaloraBudget({
      initial: config.init_r * projections.length,
      target: config.target_r * projections.length,
      warmup: config.tinit,
      final: config.tfinal,
      every: config.deltaT,
      total: run.totalSteps,
    });
    return {
      afterStep: (step) => budget.afterStep(step, run, modules),
      save: () => budget.save(),
      restore(saved) {
        if (saved !== null) budget = AdaloraBudget.restore(saved);
      },
      toFile(tensors) {
        const { kept } = budget;
        const file = adapter.peftConfig(run.model, run.totalSteps);
        if (!kept) return fileOf(file, tensors);
        return fileOf({ ...file, rank_pattern: Object.fromEntries(kept) }, withoutPruned(tensors, kept));
      },
    };
  }
}

/** An adapter's files. PEFT stores E as a column. */
function fileOf(config: PeftConfig, tensors: Tensors): AdapterFile {
  const shaped = ([name, tensor]: [string, FloatTensor]): [string, FloatTensor] => [
    headKey(name),
    name.endsWith(".lora_E") ? { shape: [tensor.data.length, 1], data: tensor.data } : tensor,
  ];
  return { config, tensors: new Map([...tensors].map(shaped)) };
}

/** Rank of a module: as many as its pattern keeps, else the initial one. */
function rankOf({ rank_pattern: pattern, init_r: initial }: Config, module: string): number {
  const kept = pattern?.[`${module}.lora_E`];
  return kept ? Math.max(1, kept.filter(Boolean).length) : initial;
}

function tensorsOf({ recorder }: Forward, target: Projection, rank: number) {
  return {
    a: recorder.parameter(`${target.name}.lora_A`, [rank, target.in]),
    b: recorder.parameter(`${target.name}.lora_B`, [target.out, rank]),
    e: recorder.parameter(`${target.name}.lora_E`, [rank]),
  };
}

/** Mean of ||A A^T - I|| and ||B^T B - I|| over all modules, times the weight (eq. 4, as PEFT computes it). */
function orthogonality(forward: Forward, targets: readonly Projection[], config: Config): Value {
  const { recorder } = forward;
  const distance = (x: Value): Value =>
    recorder.apply(identityDistance, { x: recorder.apply(linear, { x, w: x }, { layout: "out_in" }) }, {});
  const terms = targets.flatMap((target) => {
    const { a, b } = tensorsOf(forward, target, rankOf(config, target.name));
    return [distance(a), distance(recorder.apply(swapAxes, { x: b }, {}))];
  });
  const [first, ...rest] = terms as [Value, ...Value[]];
  const sum = rest.reduce((total, b) => recorder.apply(add, { a: total, b }, {}), first);
  return recorder.apply(scale, { x: sum }, { factor: config.orth_reg_weight / terms.length });
}

/** Triplets that a budget kept; a module keeps one at least, so that its tensors have a size. */
function withoutPruned(tensors: Tensors, kept: ReadonlyMap<string, readonly boolean[]>): Tensors {
  const result = new Map<string, FloatTensor>();
  for (const [name, tensor] of tensors) {
    const rows = kept.get(name.replace(/\.lora_[AB]$/, ".lora_E"));
    result.set(name, rows && /\.lora_[ABE]$/.test(name) ? filtered(name, tensor, rows) : tensor);
  }
  return result;
}

function filtered(name: string, { shape, data }: FloatTensor, kept: readonly boolean[]): FloatTensor {
  const rank = kept.filter(Boolean).length;
  const isColumns = name.endsWith(".lora_B");
  const width = isColumns ? kept.length : data.length / kept.length;
  const index = (i: number): number => (isColumns ? i % width : Math.floor(i / width));
  const own = data.filter((_, i) => kept[index(i)]);
  return { shape: isColumns ? [shape[0] ?? 0, rank] : [rank, ...shape.slice(1)], data: own };
}
