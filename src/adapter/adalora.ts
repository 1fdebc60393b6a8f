import * as v from "valibot";
import { ConfigError } from "../base/errors";
import { checkSchema } from "../io/json";
import type { PeftConfig } from "../io/peft";
import { headKey } from "../io/peft-keys";
import { unsupported } from "../io/peft-lora";
import { entryOf } from "../io/safetensors";
import type { FloatTensor } from "../io/safetensors";
import type { Projection } from "../model/model";
import { identityDistance } from "../ops/identity_distance";
import { linear } from "../ops/linear";
import { scaleColumns } from "../ops/scale_columns";
import { swapAxes } from "../ops/swap_axes";
import type { Recorder, Value } from "../tape/tape";
import type { Adapter, AdapterFile, AdapterRun, AdapterState, Tensors } from "./adapter";
import { AdaloraBudget } from "./adalora-budget";
import type { TripletNames } from "./adalora-budget";
import { constant, normal } from "./initial";
import { lowRankLinear, scaledProduct } from "./low-rank";
import { fanInFanOut, onProjections } from "./on-projections";
import type { ProjectionAdapter } from "./on-projections";
import { meanPenalty } from "./penalty";
import { TARGET_KEYS, targetKeys } from "./targets";
import type { LayerChoice, TargetOptions } from "./targets";

export interface AdaloraOptions extends TargetOptions {
  /** Rank r(0) of every module at the start. Default 12. */
  readonly initialRank?: number;
  /** Average rank at the end. Default 8. */
  readonly targetRank?: number;
  /** Scales the update by alpha / initialRank. Default 8. */
  readonly alpha?: number;
  /** Probability of dropping an element of A's input while training. Default 0. */
  readonly dropout?: number;
  /** Steps before pruning begins. Default 0. */
  readonly warmupSteps?: number;
  /** Steps at the end without pruning. Default 0. */
  readonly finalSteps?: number;
  /** Steps between prunings. Default 1. */
  readonly every?: number;
  /** Weight of the orthogonality penalty. Default 0.5. */
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
  /** Which triplets of each module's E are kept; null before pruning. */
  rank_pattern: v.optional(v.nullable(v.record(v.string(), v.array(v.boolean()))), null),
  bias: v.optional(v.picklist(["none", "all", "lora_only"]), "none"),
});

type Config = v.InferOutput<typeof SCHEMA>;

/**
 * AdaLoRA (Zhang et al. 2023): y = x W + bias + scale * B (E * (A drop(x))), with A [r, in], B [out, r] and E [r]: singular
 * triplets, of which the least important are pruned (their E becomes 0) until a budget is met (eq. 9 to 12). A penalty keeps
 * the rows of A and the columns of B orthonormal (eq. 4).
 *
 * Keeps what LoRA of the initial rank keeps; pruned triplets stay as zeros until the adapter is saved.
 * @throws ConfigError or FileFormatError for options that make no sense.
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
    ...targetKeys(options),
  };
  return adaloraFromConfig(keys, "the AdaLoRA configuration", options.layers);
}

/** AdaLoRA by its adapter_config.json. @throws FileFormatError or ConfigError for a wrong value. */
export function adaloraFromConfig(value: PeftConfig, where: string, layers?: LayerChoice): Adapter {
  const config = checkSchema(SCHEMA, value, where);
  if (config.bias !== "none") throw unsupported(`bias: ${config.bias} for AdaLoRA`, where);
  if (config.target_r > config.init_r) {
    throw new ConfigError(
      `${where}: target_r ${config.target_r} is above init_r ${config.init_r}.`,
      "Pruning only lowers ranks.",
    );
  }
  // PEFT divides by the initial rank, whatever pruning leaves of it.
  const factor = config.lora_alpha / (config.init_r + 1e-5);
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
      const { a, b, e } = tripletNames(target);
      return [normal(a, [rank, target.in], 0.02), normal(b, [target.out, rank], 0.02), constant(e, [rank], 0)];
    },
    linear(forward, site) {
      const { a, b, e } = tripletValues(forward.recorder, site, rankOf(config, site.name));
      const scaled = forward.recorder.apply(scaleColumns, { a: b, b: e }, {});
      return lowRankLinear(forward, site, { a, b: scaled, scale: factor, dropout: config.lora_dropout });
    },
    penalty: ({ recorder }, targets) =>
      config.orth_reg_weight === 0 ? undefined : orthogonality(recorder, targets, config),
    // The ranks of an adapter that was saved after pruning are final.
    ...(config.rank_pattern === null && { start }),
    // PEFT refuses a file without a number of steps, and one whose steps leave none to prune in.
    peft: (targets, _model, totalSteps) => ({
      fan_in_fan_out: fanInFanOut(targets),
      total_step: config.total_step ?? Math.max(totalSteps, config.tinit + config.tfinal + 1),
    }),
    toFile: (model, tensors) => fileOf(adapter.peftConfig(model), tensors),
    update(target, tensors) {
      const tensor = (name: string): FloatTensor => entryOf(tensors, name, "the adapter");
      const { a, b, e } = tripletNames(target);
      return { a: tensor(a), b: scaledProduct(tensor(b), undefined, tensor(e)), scale: factor };
    },
  });
  return adapter;

  function start(run: AdapterRun): AdapterState {
    const { projections } = adapter.targets(run.model);
    const modules = projections.map(tripletNames);
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
        const peftConfig = adapter.peftConfig(run.model, run.totalSteps);
        if (!kept) return fileOf(peftConfig, tensors);
        return fileOf({ ...peftConfig, rank_pattern: Object.fromEntries(kept) }, withoutPruned(tensors, kept));
      },
    };
  }
}

/** The two files' contents. PEFT stores E as a column. */
function fileOf(config: PeftConfig, tensors: Tensors): AdapterFile {
  const shaped = ([name, tensor]: [string, FloatTensor]): [string, FloatTensor] => [
    headKey(name),
    name.endsWith(".lora_E") ? { shape: [tensor.data.length, 1], data: tensor.data } : tensor,
  ];
  return { config, tensors: new Map([...tensors].map(shaped)) };
}

/** Rank of a module: the number of triplets that the pattern keeps, else the initial rank. */
function rankOf({ rank_pattern: pattern, init_r: initialRank }: Config, module: string): number {
  const kept = pattern?.[`${module}.lora_E`];
  return kept ? Math.max(1, kept.filter(Boolean).length) : initialRank;
}

const tripletNames = ({ name }: Pick<Projection, "name">): Required<TripletNames> => ({
  a: `${name}.lora_A`,
  b: `${name}.lora_B`,
  e: `${name}.lora_E`,
});

function tripletValues(recorder: Recorder, target: Projection, rank: number) {
  const { a, b, e } = tripletNames(target);
  return {
    a: recorder.parameter(a, [rank, target.in]),
    b: recorder.parameter(b, [target.out, rank]),
    e: recorder.parameter(e, [rank]),
  };
}

/** Mean of ||A A^T - I|| and ||B^T B - I|| over all modules, times the weight (eq. 4, as PEFT computes it). */
function orthogonality(recorder: Recorder, targets: readonly Projection[], config: Config): Value {
  const distance = (x: Value): Value =>
    recorder.apply(identityDistance, { x: recorder.apply(linear, { x, w: x }, { layout: "out_in" }) }, {});
  const terms = targets.flatMap((target) => {
    const { a, b } = tripletValues(recorder, target, rankOf(config, target.name));
    return [distance(a), distance(recorder.apply(swapAxes, { x: b }, {}))];
  });
  return meanPenalty(recorder, terms, config.orth_reg_weight);
}

/** Tensors without pruned triplets. */
function withoutPruned(tensors: Tensors, kept: ReadonlyMap<string, readonly boolean[]>): Tensors {
  const result = new Map<string, FloatTensor>();
  for (const [name, tensor] of tensors) {
    const triplets = kept.get(name.replace(/\.lora_[AB]$/, ".lora_E"));
    result.set(name, triplets && /\.lora_[ABE]$/.test(name) ? keptPart(name, tensor, triplets) : tensor);
  }
  return result;
}

/** The rows of A or E, or the columns of B, of the kept triplets. */
function keptPart(name: string, { shape, data }: FloatTensor, kept: readonly boolean[]): FloatTensor {
  const rank = kept.filter(Boolean).length;
  const isColumns = name.endsWith(".lora_B");
  const width = isColumns ? kept.length : data.length / kept.length;
  const triplet = (i: number): number => (isColumns ? i % width : Math.floor(i / width));
  const part = data.filter((_, i) => kept[triplet(i)]);
  return { shape: isColumns ? [shape[0] ?? 0, rank] : [rank, ...shape.slice(1)], data: part };
}
