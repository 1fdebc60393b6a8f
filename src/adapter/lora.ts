import { ConfigError } from "../base/errors";
import type { Random } from "../base/random";
import { loraConfig, rankOf, scaleOf } from "../io/peft-lora";
import type { LoraConfig } from "../io/peft-lora";
import { isTarget } from "../io/peft-match";
import type { Model, Projection } from "../model/model";
import { loraLinear } from "../ops/lora_linear";
import type { Adapter, AdapterTensor } from "./adapter";

export interface LoraOptions {
  /** Default 8. */
  readonly rank?: number;
  /** The update is scaled by alpha / rank. Default 8. */
  readonly alpha?: number;
  /** Probability of dropping an element of a projection's input on its way into A. Default 0. */
  readonly dropout?: number;
  /** Names of modules (whole, or a suffix after a dot), or one regular expression; default the family's own. */
  readonly targets?: string | readonly string[];
  /** Layers to adapt; default all. */
  readonly layers?: readonly number[];
  /** Scale by alpha / sqrt(rank) instead (rsLoRA, Kalajdzievski 2023). */
  readonly rankStabilised?: boolean;
  /** Whole modules to train as well; default the task's head. */
  readonly modulesToSave?: readonly string[];
}

/**
 * LoRA (Hu et al. 2021, eq. 3): y = x W + bias + scale * (drop(x) A^T) B^T for every targeted projection, with A [r, in]
 * uniform in +-1 / sqrt(in) and B [out, r] zero.
 * @throws ConfigError for a rank, scale or dropout that makes no sense.
 */
export function lora(options: LoraOptions = {}): Adapter {
  const { targets, layers, modulesToSave } = options;
  return loraFromConfig(
    loraConfig({
      r: options.rank ?? 8,
      lora_alpha: options.alpha ?? 8,
      lora_dropout: options.dropout ?? 0,
      use_rslora: options.rankStabilised ?? false,
      ...(targets === undefined ? {} : { target_modules: typeof targets === "string" ? targets : [...targets] }),
      ...(layers === undefined ? {} : { layers_to_transform: [...layers] }),
      ...(modulesToSave === undefined ? {} : { modules_to_save: [...modulesToSave] }),
    }),
  );
}

/** LoRA as an adapter_config.json describes it. */
export function loraFromConfig(config: LoraConfig): Adapter {
  const chosen = (model: Model): LoraConfig => ({
    ...config,
    target_modules: config.target_modules ?? [...model.defaultTargets],
    modules_to_save: config.modules_to_save ?? [...model.heads],
  });
  const isAdapted = (model: Model, name: string): boolean => isTarget(chosen(model), name);
  const heads = (model: Model): string[] => chosen(model).modules_to_save ?? [];
  return {
    kind: "lora",
    tensors(model) {
      const adapted = model.projections.filter(({ name }) => isAdapted(model, name));
      if (adapted.length === 0) throw noTarget(model, chosen(model).target_modules);
      return adapted.flatMap((projection) => tensorsOf(projection, config));
    },
    baseTensors(model) {
      const named = heads(model);
      const belongs = (name: string): boolean =>
        named.some((module) => name.startsWith(`${module}.`) || name.includes(`.${module}.`));
      const own = model.parameters.map(({ name }) => name).filter(belongs);
      // PEFT names both "classifier" and "score" and passes over the one that a model does not have.
      if (own.length > 0 || named.length === 0) return own;
      throw new ConfigError(
        `modules_to_save names ${named.join(", ")}, which ${model.family} does not have.`,
        `It may name ${model.heads.join(", ") || "no head"}, or any module of the model.`,
      );
    },
    peftConfig: (model) => peftConfig(model, chosen(model)),
    linear(forward, site) {
      if (!isAdapted(forward.model, site.name)) return undefined;
      const rank = rankOf(config, site.name);
      const dropout = forward.isTraining ? config.lora_dropout : 0;
      const inputs = {
        x: site.x,
        w: site.weight,
        bias: site.biasValue,
        a: forward.recorder.parameter(`${site.name}.lora_A.weight`, [rank, site.in]),
        b: forward.recorder.parameter(`${site.name}.lora_B.weight`, [site.out, rank]),
        seed: dropout > 0 ? forward.seed : undefined,
      };
      const salt = dropout > 0 ? forward.nextSalt() : 0;
      const scale = scaleOf(config, site.name);
      return forward.recorder.apply(loraLinear, inputs, { layout: site.layout, scale, dropout, salt });
    },
  };
}

function tensorsOf(projection: Projection, config: LoraConfig): AdapterTensor[] {
  const rank = rankOf(config, projection.name);
  const bound = 1 / Math.sqrt(projection.in);
  return [
    {
      name: `${projection.name}.lora_A.weight`,
      shape: [rank, projection.in],
      initial: (random: Random) =>
        Float32Array.from({ length: rank * projection.in }, () => (random.uniform() * 2 - 1) * bound),
    },
    {
      name: `${projection.name}.lora_B.weight`,
      shape: [projection.out, rank],
      initial: () => new Float32Array(projection.out * rank),
    },
  ];
}

const TASK_TYPES = { sequence_classification: "SEQ_CLS", regression: "SEQ_CLS", causal_lm: "CAUSAL_LM" } as const;

function peftConfig(model: Model, config: LoraConfig) {
  return {
    ...config,
    // GPT-2's Conv1D stores its weights transposed; PEFT wants to be told.
    fan_in_fan_out: model.projections.some(({ layout }) => layout === "in_out"),
    task_type: TASK_TYPES[model.task],
    inference_mode: true,
  };
}

function noTarget(model: Model, targets: LoraConfig["target_modules"]): ConfigError {
  const names = [...new Set(model.projections.map(({ name }) => name.split(".").slice(-2).join(".")))];
  return new ConfigError(
    `No module of this ${model.family} model matches the adapter's targets ${JSON.stringify(targets)}.`,
    `Its projections are ${names.join(", ")}.`,
  );
}
