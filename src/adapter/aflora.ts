import * as v from "valibot";
import { ConfigError, FileFormatError } from "../base/errors";
import { checkSchema } from "../io/json";
import type { PeftConfig } from "../io/peft";
import { headKey } from "../io/peft-keys";
import { entryOf } from "../io/safetensors";
import type { FloatTensor } from "../io/safetensors";
import type { Model, Projection, ProjectionRole } from "../model/model";
import { scaleColumns } from "../ops/scale_columns";
import { scaleRows } from "../ops/scale_rows";
import type { Statistics } from "../ops/shared/statistics";
import type { Adapter, AdapterRun, AdapterState } from "./adapter";
import { AdaloraBudget } from "./adalora-budget";
import { constant, uniform } from "./initial";
import { lowRankLinear, scaledProduct } from "./low-rank";
import { onProjections } from "./on-projections";
import type { ProjectionAdapter } from "./on-projections";
import { TARGET_KEYS, targetKeys } from "./targets";
import type { LayerChoice, TargetOptions } from "./targets";

/** Parts of a layer in which AFLoRA's A and B learn. */
export type MatricesChoice = "feed_forward" | "attention" | "both" | "none";

export interface AfloraOptions extends TargetOptions {
  /** Rank r of every module. Default 4. */
  readonly rank?: number;
  /**
   * Where A and B learn; elsewhere they keep their random values, and only d and b learn. With `afloraFreezing` they learn
   * until they freeze, with `never` throughout. Default "feed_forward", as in the paper; the others are its ablations
   * (tables 2 and 3).
   */
  readonly matrices?: MatricesChoice;
  /** Initial value of every element of d. Default 0.1. */
  readonly initialD?: number;
  /** A budget of ranks, as AdaLoRA has it. Default none, as in the paper, which leaves it to future work. */
  readonly rankBudget?: RankBudget;
}

/** How many components of all modules together remain, and when the others are removed. */
export interface RankBudget {
  /** Average rank at the end; every module keeps one component at least. */
  readonly targetRank: number;
  /** Share of all steps before the first removal. Default 0.1. */
  readonly warmupShare?: number;
  /** Share of all steps, at the end, without another removal. Default 0.3. */
  readonly finalShare?: number;
  /** Steps between removals. Default 1. */
  readonly every?: number;
}

const COUNT = v.pipe(v.number(), v.safeInteger(), v.minValue(1));
const SHARE = v.pipe(v.number(), v.minValue(0), v.maxValue(1));
/** `RankBudget` with its defaults. */
const RANK_BUDGET = v.strictObject({
  targetRank: COUNT,
  warmupShare: v.optional(SHARE, 0.1),
  finalShare: v.optional(SHARE, 0.3),
  every: v.optional(COUNT, 1),
});
const SCHEMA = v.object({
  ...TARGET_KEYS,
  peft_type: v.literal("SAFETAPE_AFLORA"),
  r: COUNT,
  d_initial: v.pipe(v.number(), v.finite()),
  trained_matrices: v.picklist(["feed_forward", "attention", "both", "none"]),
  rank_budget: v.optional(
    v.strictObject({
      target_r: COUNT,
      warmup_share: SHARE,
      final_share: SHARE,
      every: COUNT,
    }),
  ),
});

const FEED_FORWARD: readonly ProjectionRole[] = ["feed_forward_in", "feed_forward_out"];

/**
 * AFLoRA's module (Liu et al. 2024, eq. 1): y = x W + bias + b * (B (d * (A x))), with A [r, in] and B [out, r]
 * Kaiming-uniform, d [r] 0.1 and b [out] zero. The vectors act on every projection of a layer and learn throughout. A and B
 * learn in the feed-forward alone, until the policy `afloraFreezing` freezes them one by one. In BERT-base that is 83,232
 * numbers in vectors and 368,640 in matrices at rank 4. diag(b) B diag(d) is computed first, so that every gradient but A's
 * is made in rank-wide space.
 *
 * `rankBudget` is ours: it removes components (their element of d becomes 0) in the order of AdaLoRA's importance (Zhang et
 * al. 2023, eq. 9 to 12) of d alone. That loses nothing: scaling row i of A, element i of d or column i of B by one factor
 * changes the same product, so the sums of weight times gradient over the row and over the column equal that of d's element.
 * And d learns to the end, while A and B freeze.
 * @throws ConfigError or FileFormatError for options that make no sense.
 */
export function aflora(options: AfloraOptions = {}): Adapter {
  const { rank: r = 4, matrices = "feed_forward", initialD = 0.1, layers } = options;
  const rankBudget =
    options.rankBudget && checkSchema(RANK_BUDGET, options.rankBudget, "the AFLoRA configuration: rankBudget");
  const rank_budget = rankBudget && {
    target_r: rankBudget.targetRank,
    warmup_share: rankBudget.warmupShare,
    final_share: rankBudget.finalShare,
    every: rankBudget.every,
  };
  const keys = { peft_type: "SAFETAPE_AFLORA", r, d_initial: initialD, trained_matrices: matrices, rank_budget };
  return afloraFromConfig({ ...keys, ...targetKeys(options) }, "the AFLoRA configuration", layers);
}

/**
 * AFLoRA by its adapter_config.json.
 * @throws FileFormatError for a wrong value, or for `trains_square`, by which early versions chose matrices by their shape.
 */
export function afloraFromConfig(value: PeftConfig, where: string, layers?: LayerChoice): Adapter {
  if ("trains_square" in value) {
    throw new FileFormatError(
      `${where} has trains_square, by which an early version chose the matrices that learn by their shape.`,
      `Replace it by "trained_matrices": "both" where it is true, else by "feed_forward".`,
    );
  }
  const config = checkSchema(SCHEMA, value, where);
  const { r, trained_matrices: matrices } = config;
  const isFixed = ({ role }: Projection): boolean => {
    if (role === undefined || matrices === "none") return true;
    return matrices !== "both" && FEED_FORWARD.includes(role) !== (matrices === "feed_forward");
  };
  const { rank_budget: budget } = config;
  if (budget && (budget.target_r > r || budget.warmup_share + budget.final_share >= 1)) {
    throw new ConfigError(
      `AFLoRA's rank budget has targetRank ${budget.target_r} of ${r}, warmupShare ${budget.warmup_share}, finalShare ${budget.final_share}.`,
      "Give a rank that is not above that of every module, and shares that leave steps between them.",
    );
  }
  const adapter: ProjectionAdapter = onProjections({
    kind: "aflora",
    config,
    layers,
    defaults: layerModules,
    ...(budget && { statistics: BUDGET_STATISTICS, start: (run: AdapterRun) => startBudget(run, budget) }),
    tensorsOf: (target) => [
      {
        ...uniform(`${target.name}.aflora_A.weight`, [r, target.in], Math.sqrt(6 / target.in)),
        isFixed: isFixed(target),
      },
      { ...uniform(`${target.name}.aflora_B.weight`, [target.out, r], Math.sqrt(6 / r)), isFixed: isFixed(target) },
      constant(`${target.name}.aflora_d`, [r], config.d_initial),
      constant(`${target.name}.aflora_b`, [target.out], 0),
    ],
    linear(forward, site) {
      const { recorder } = forward;
      const tensor = (part: string, shape: readonly number[]) =>
        recorder.parameter(`${site.name}.aflora_${part}`, shape);
      const scaledColumns = recorder.apply(
        scaleColumns,
        { a: tensor("B.weight", [site.out, r]), b: tensor("d", [r]) },
        {},
      );
      const b = recorder.apply(scaleRows, { a: scaledColumns, b: tensor("b", [site.out]) }, {});
      return lowRankLinear(forward, site, { a: tensor("A.weight", [r, site.in]), b, scale: 1, dropout: 0 });
    },
    update({ name }, tensors) {
      const tensor = (part: string): FloatTensor => entryOf(tensors, `${name}.aflora_${part}`, "the adapter");
      return { a: tensor("A.weight"), b: scaledProduct(tensor("B.weight"), tensor("b"), tensor("d")), scale: 1 };
    },
  });
  return adapter;

  function startBudget(run: AdapterRun, settings: NonNullable<typeof budget>): AdapterState {
    const { projections } = adapter.targets(run.model);
    let ranks = new AdaloraBudget({
      initial: r * projections.length,
      target: settings.target_r * projections.length,
      // At the first step b is 0, and with it every sensitivity of d.
      warmup: Math.max(1, Math.round(settings.warmup_share * run.totalSteps)),
      final: Math.round(settings.final_share * run.totalSteps),
      every: settings.every,
      total: run.totalSteps,
    });
    const modules = projections.map(({ name }) => ({ e: `${name}.aflora_d` }));
    return {
      afterStep: (step) => ranks.afterStep(step, run, modules),
      save: () => ranks.save(),
      restore(saved) {
        if (saved !== null) ranks = AdaloraBudget.restore(saved);
      },
      // A saved adapter has its final ranks: the elements of d that are 0.
      toFile(tensors) {
        const { rank_budget: _, ...file } = adapter.peftConfig(run.model, run.totalSteps);
        return { config: file, tensors: new Map([...tensors].map(([name, tensor]) => [headKey(name), tensor])) };
      },
    };
  }
}

/** AdaLoRA's statistics, of d alone. */
const BUDGET_STATISTICS: Statistics = {
  kind: "weight_gradient",
  beta1: 0.85,
  beta2: 0.85,
  when: "after_update",
  applies: (name) => name.endsWith(".aflora_d"),
};

/** Ends of names that choose every projection of the layers and no other one, the shortest that do. */
function layerModules(model: Model): readonly string[] {
  const outside = model.projections.filter(({ role }) => role === undefined);
  const endOf = (name: string): string => {
    const parts = name.split(".");
    const ends = parts.map((_, i) => parts.slice(parts.length - 1 - i).join("."));
    return ends.find((end) => !outside.some((other) => `.${other.name}`.endsWith(`.${end}`))) ?? name;
  };
  return [...new Set(model.projections.filter(({ role }) => role !== undefined).map(({ name }) => endOf(name)))];
}
