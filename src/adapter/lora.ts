import { ConfigError } from "../base/errors";
import { headKey, stripPrefix } from "../io/peft-keys";
import { loraConfig, rankOf, scaleOf } from "../io/peft-lora";
import type { LoraConfig } from "../io/peft-lora";
import type { PeftConfig } from "../io/peft";
import { entryOf } from "../io/safetensors";
import type { Model } from "../model/model";
import type { Adapter, AdapterFile, LowRankUpdate, Tensors } from "./adapter";
import { constant, uniform } from "./initial";
import { fanInFanOut, lowRankLinear, onProjections } from "./on-projections";
import type { ProjectionAdapter } from "./on-projections";
import { targetKeys } from "./targets";
import type { LayerChoice, TargetOptions } from "./targets";

export interface LoraOptions extends TargetOptions {
  /** Default 8. */
  readonly rank?: number;
  /** The update is scaled by alpha / rank. Default 8. */
  readonly alpha?: number;
  /** Probability of dropping an element of a projection's input on its way into A. Default 0. */
  readonly dropout?: number;
  /** Scale by alpha / sqrt(rank) instead (rsLoRA, Kalajdzievski 2023). */
  readonly rankStabilised?: boolean;
  /** Other ranks and alphas for modules whose name, or its end after a dot, matches a pattern. */
  readonly rankPattern?: Readonly<Record<string, number>>;
  readonly alphaPattern?: Readonly<Record<string, number>>;
  /** Biases to train as well: those of adapted projections, or all of the model's. Default "none". */
  readonly bias?: "none" | "lora_only" | "all";
}

/**
 * LoRA (Hu et al. 2021, eq. 3): y = x W + bias + scale * (drop(x) A^T) B^T for every targeted projection, with A [r, in]
 * uniform in +-1 / sqrt(in) and B [out, r] zero.
 * @throws ConfigError for a rank, scale or dropout that makes no sense.
 */
export function lora(options: LoraOptions = {}): Adapter {
  const config = loraConfig({
    ...{ r: options.rank ?? 8, lora_alpha: options.alpha ?? 8, lora_dropout: options.dropout ?? 0 },
    ...{ use_rslora: options.rankStabilised ?? false, bias: options.bias ?? "none" },
    ...(options.rankPattern && { rank_pattern: { ...options.rankPattern } }),
    ...(options.alphaPattern && { alpha_pattern: { ...options.alphaPattern } }),
    ...targetKeys(options),
  });
  return loraFromConfig(config, options.layers);
}

/** LoRA as an adapter_config.json describes it. */
export function loraFromConfig(config: LoraConfig, layers?: LayerChoice): Adapter {
  const adapter: ProjectionAdapter = onProjections({
    ...{ kind: "lora", config, layers },
    tensorsOf: (target) => [
      uniform(nameOf(target.name, "A"), [rankOf(config, target.name), target.in], 1 / Math.sqrt(target.in)),
      constant(nameOf(target.name, "B"), [target.out, rankOf(config, target.name)], 0),
    ],
    baseTensors(targets, model) {
      if (config.bias === "none") return [];
      if (config.bias === "lora_only") return targets.filter(({ bias }) => bias).map(({ name }) => `${name}.bias`);
      return model.parameters.map(({ name }) => name).filter((name) => name.endsWith(".bias"));
    },
    linear(forward, site) {
      const rank = rankOf(config, site.name);
      const a = forward.recorder.parameter(nameOf(site.name, "A"), [rank, site.in]);
      const b = forward.recorder.parameter(nameOf(site.name, "B"), [site.out, rank]);
      return lowRankLinear(forward, site, { a, b, scale: scaleOf(config, site.name), dropout: config.lora_dropout });
    },
    peft: (targets) => ({ fan_in_fan_out: fanInFanOut(targets) }),
    toFile(model, tensors): AdapterFile {
      const { names } = adapter.choice(model);
      const key = (name: string): string => {
        const module = name.replace(/\.bias$/, "");
        return headKey(module !== name && names.has(module) ? `${module}.base_layer.bias` : name);
      };
      const keyed = new Map([...tensors].map(([name, tensor]) => [key(name), tensor]));
      return { config: adapter.peftConfig(model), tensors: keyed };
    },
    fromFile: (stored) =>
      new Map([...stored].map(([key, tensor]) => [stripPrefix(key).replace(/\.base_layer\.bias$/, ".bias"), tensor])),
    updates: (model, tensors) =>
      new Map(
        adapter.choice(model).projections.map(({ name }): [string, LowRankUpdate] => [
          name,
          {
            a: entryOf(tensors, nameOf(name, "A"), "the adapter"),
            b: entryOf(tensors, nameOf(name, "B"), "the adapter"),
            scale: scaleOf(config, name),
          },
        ]),
      ),
  });
  return adapter;
}

const nameOf = (module: string, part: "A" | "B"): string => `${module}.lora_${part}.weight`;

/**
 * Any adapter of low-rank updates as the plain LoRA that computes the same, in PEFT's files: its scale goes into B, so
 * that alpha equals the rank of each module.
 * @throws ConfigError for an adapter that is something else.
 */
export function asLora(adapter: Adapter, model: Model, tensors: Tensors): AdapterFile {
  const updates = adapter.updates?.(model, tensors);
  if (!updates) {
    throw new ConfigError(`${adapter.kind} is no sum of low-rank updates.`, "Save it as its own kind.");
  }
  const ranks = Object.fromEntries([...updates].map(([name, { a }]) => [name, a.shape[0] ?? 1]));
  const [first = 1] = Object.values(ranks);
  const differs = Object.fromEntries(Object.entries(ranks).filter(([, rank]) => rank !== first));
  const isHead = (name: string): boolean => model.heads.some((head) => name.startsWith(`${head}.`));
  const config = loraConfig({
    ...{ r: first, lora_alpha: first, rank_pattern: differs, alpha_pattern: differs },
    ...{ target_modules: [...updates.keys()], modules_to_save: [...model.heads] },
  });
  const plain = loraFromConfig(config);
  const file = new Map([...tensors].filter(([name]) => isHead(name)));
  for (const [name, { a, b, scale }] of updates) {
    file.set(nameOf(name, "A"), a);
    file.set(nameOf(name, "B"), { shape: b.shape, data: b.data.map((value) => value * scale) });
  }
  return {
    config: plain.peftConfig(model) satisfies PeftConfig,
    tensors: new Map([...file].map(([name, tensor]) => [headKey(name), tensor])),
  };
}
