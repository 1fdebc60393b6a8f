import { ConfigError } from "../base/errors";
import { headKey } from "../io/peft-keys";
import { LORA_WITH_BIASES, loraConfig, rankOf, scaleOf } from "../io/peft-lora";
import type { LoraConfig } from "../io/peft-lora";
import { matchesPattern } from "../io/peft-match";
import { entryOf } from "../io/safetensors";
import type { Forward, LinearSite } from "../model/forward";
import type { Projection } from "../model/model";
import type { Value } from "../tape/tape";
import type { Adapter, LowRankUpdate, Tensors } from "./adapter";
import { withAddedBiases } from "./added-biases";
import { constant, uniform } from "./initial";
import type { NewTensor } from "./initial";
import { lowRankLinear } from "./low-rank";
import type { TracedUpdate } from "./low-rank";
import { fanInFanOut, onProjections } from "./on-projections";
import type { ProjectionAdapter } from "./on-projections";
import { targetKeys } from "./targets";
import type { LoraInit } from "./lora-init";
import type { LayerChoice, TargetOptions } from "./targets";

export interface LoraOptions extends TargetOptions {
  /** Rank r of the update. Default 8. */
  readonly rank?: number;
  /** Scales the update by alpha / rank. Default 8. */
  readonly alpha?: number;
  /** Probability of dropping an element of A's input while training. Default 0. */
  readonly dropout?: number;
  /** Whether to scale by alpha / sqrt(rank) instead (rsLoRA, Kalajdzievski 2023). Default false. */
  readonly rankStabilised?: boolean;
  /** Ranks of modules whose path, or its end after a dot, matches the pattern. Default none: `rank` for all. */
  readonly rankPattern?: Readonly<Record<string, number>>;
  /** Alphas of modules whose path, or its end after a dot, matches the pattern. Default none: `alpha` for all. */
  readonly alphaPattern?: Readonly<Record<string, number>>;
  /** First values of A and B. Default true. `safetape/core` has no others. */
  readonly init?: LoraInit;
  /** Biases to train as well: those of adapted projections, or all of the model's. Default "none". */
  readonly bias?: "none" | "lora_only" | "all";
  /**
   * Whether projections without a bias get one of zeros, which learns: the adapted ones, or with `bias: "all"` all of the
   * layers. Default false.
   */
  readonly addBiases?: boolean;
  /**
   * Whether a language model's last projection that shares the embeddings' table shares the trained table as well, where
   * `modulesToSave` names embed_tokens or lm_head (PEFT's `ensure_weight_tying`). Default false: what is saved is a copy that
   * the other does not read.
   */
  readonly ensureWeightTying?: boolean;
}

/**
 * LoRA (Hu et al. 2021, eq. 3): y = x W + bias + scale * (drop(x) A^T) B^T for every target, with A [r, in] uniform in
 * +-1 / sqrt(in) and B [out, r] zero.
 * @throws FileFormatError for a rank, scale or dropout that makes no sense, ConfigError for `addBiases` where none are trained.
 */
export function lora(options: LoraOptions = {}): Adapter {
  const config = configOf(options);
  if (config.init_lora_weights === true) return loraFromConfig(config, options.layers);
  throw new ConfigError("safetape/core has no init.", "Import lora from safetape.");
}

/** Options as adapter_config.json. @throws as `lora` does. */
export function configOf(options: LoraOptions): LoraConfig {
  const { addBiases = false, bias = "none" } = options;
  if (addBiases && bias === "none") {
    throw new ConfigError("LoRA adds biases, but trains none.", 'Give bias: "lora_only" or "all" with addBiases.');
  }
  return loraConfig({
    peft_type: addBiases ? LORA_WITH_BIASES : "LORA",
    // What is left out has PEFT's defaults.
    r: options.rank,
    lora_alpha: options.alpha,
    lora_dropout: options.dropout,
    use_rslora: options.rankStabilised,
    bias,
    ensure_weight_tying: options.ensureWeightTying,
    init_lora_weights: options.init,
    rank_pattern: options.rankPattern,
    alpha_pattern: options.alphaPattern,
    ...targetKeys(options),
  });
}

/** What one form of LoRA computes with A and B. */
export interface LoraForm {
  readonly kind: string;
  /** Tensors of an adapted projection. @param factors A, which is uniform in +-1 / sqrt(in), and B, which is 0. */
  tensorsOf(target: Projection, factors: readonly [NewTensor, NewTensor]): readonly NewTensor[];
  /** Replaces an adapted projection. */
  linear(forward: Forward, site: LinearSite, update: TracedUpdate): Value;
  /** How it is merged; left out where W + scale B A is all. */
  readonly merged?: NonNullable<Adapter["merged"]>;
  /** The update of a module, where it is another one than scale B A. */
  readonly updateOf?: typeof updateOf;
}

export const PLAIN: LoraForm = { kind: "lora", tensorsOf: (_target, factors) => factors, linear: lowRankLinear };

/** LoRA by its adapter_config.json, in its plain form or another one. */
export function loraFromConfig(config: LoraConfig, layers?: LayerChoice, form: LoraForm = PLAIN): Adapter {
  const { kind, merged } = form;
  const adapter: ProjectionAdapter = onProjections({
    kind,
    config,
    layers,
    tensorsOf: (target) =>
      form.tensorsOf(target, [
        uniform(loraName(target.name, "A"), [rankOf(config, target.name), target.in], 1 / Math.sqrt(target.in)),
        constant(loraName(target.name, "B"), [target.out, rankOf(config, target.name)], 0),
      ]),
    baseTensors(targets, model) {
      if (config.bias === "none") return [];
      if (config.bias === "lora_only") return targets.filter(({ bias }) => bias).map(({ name }) => `${name}.bias`);
      return model.parameters.map(({ name }) => name).filter((name) => name.endsWith(".bias"));
    },
    linear(forward, site) {
      const rank = rankOf(config, site.name);
      const a = forward.recorder.parameter(loraName(site.name, "A"), [rank, site.in]);
      const b = forward.recorder.parameter(loraName(site.name, "B"), [site.out, rank]);
      return form.linear(forward, site, { a, b, scale: scaleOf(config, site.name), dropout: config.lora_dropout });
    },
    check: (targets) => checkPatterns(config, targets),
    peft: (targets) => ({ fan_in_fan_out: fanInFanOut(targets) }),
    // PEFT wraps an adapted projection: its own tensors are then those of a `base_layer`.
    toFile(model, tensors) {
      const { names } = adapter.targets(model);
      const key = (name: string): string => {
        const [, module, part] = /^(.*)\.(weight|bias)$/.exec(name) ?? [];
        return headKey(module !== undefined && names.has(module) ? `${module}.base_layer.${part}` : name);
      };
      const keyed = new Map([...tensors].map(([name, tensor]) => [key(name), tensor]));
      return { config: adapter.peftConfig(model), tensors: keyed };
    },
    ...(merged ? { merged } : { update: ({ name }, tensors) => (form.updateOf ?? updateOf)(config, name, tensors) }),
  });
  if (config.peft_type === "LORA") return adapter;
  return withAddedBiases(adapter, (model) => {
    const isAll = config.bias === "all";
    return isAll ? model.projections.filter(({ role }) => role !== undefined) : adapter.targets(model).projections;
  });
}

/** Patterns of ranks or alphas that match none of these modules. */
export const unmatched = (patterns: Readonly<Record<string, number>>, targets: readonly Projection[]): string[] =>
  Object.keys(patterns).filter((pattern) => !targets.some(({ name }) => matchesPattern(pattern, name, "suffix")));

/** @throws ConfigError for a pattern that matches no adapted module. */
export function checkPatterns(
  {
    rank_pattern: ranks,
    alpha_pattern: alphas,
  }: Readonly<Record<"rank_pattern" | "alpha_pattern", Record<string, number> | null>>,
  targets: readonly Projection[],
): void {
  const [pattern] = [...unmatched(ranks ?? {}, targets), ...unmatched(alphas ?? {}, targets)];
  if (pattern === undefined) return;
  throw new ConfigError(
    `The pattern ${JSON.stringify(pattern)} of ranks or alphas matches no adapted module.`,
    `Match the end of a path after a dot. Adapted are ${targets
      .slice(0, 3)
      .map(({ name }) => name)
      .join(", ")}${targets.length > 3 ? ", ..." : ""}.`,
  );
}

/** The update scale B A of a module. */
export const updateOf = (config: LoraConfig, module: string, tensors: Tensors): LowRankUpdate => ({
  a: entryOf(tensors, loraName(module, "A"), "the adapter"),
  b: entryOf(tensors, loraName(module, "B"), "the adapter"),
  scale: scaleOf(config, module),
});

/** Name of a module's A [r, in] or B [out, r]. */
export const loraName = (module: string, part: "A" | "B"): string => `${module}.lora_${part}.weight`;
