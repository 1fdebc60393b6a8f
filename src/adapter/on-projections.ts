import type { PeftConfig } from "../io/peft";
import type { Forward, LinearSite } from "../model/forward";
import type { Model, Projection } from "../model/model";
import { loraLinear } from "../ops/lora_linear";
import type { Value } from "../tape/tape";
import type { Adapter } from "./adapter";
import type { NewTensor } from "./initial";
import { resolveTargets, savedModuleTensors, targetProjections, taskType } from "./targets";
import type { LayerChoice, TargetConfig } from "./targets";

/** What tells one adapter of projections from another. `C` is its adapter_config.json. */
export interface OnProjections<C extends TargetConfig & PeftConfig> extends Pick<
  Adapter,
  "penalty" | "proximal" | "statistics" | "start" | "toFile" | "fromFile" | "merged" | "updates"
> {
  readonly kind: string;
  readonly config: C;
  /** Layers that the configuration cannot say by number before the model is known. */
  readonly layers: LayerChoice | undefined;
  /** `target_modules` where the configuration names none; default the family's own. */
  defaults?(model: Model): readonly string[];
  /** Tensors that projections share. */
  shared?(targets: readonly Projection[]): readonly NewTensor[];
  tensorsOf(target: Projection, model: Model): readonly NewTensor[];
  /** Tensors of the checkpoint that are trained beside the saved modules. */
  baseTensors?(targets: readonly Projection[], model: Model): readonly string[];
  /** Takes the place of a targeted projection. */
  linear(forward: Forward, site: LinearSite): Value;
  /** Keys of adapter_config.json that depend on the model. */
  peft?(targets: readonly Projection[], model: Model, totalSteps: number): Record<string, unknown>;
}

/** The modules that an adapter acts on, on one model. */
export interface Choice {
  readonly config: TargetConfig;
  readonly projections: readonly Projection[];
  readonly names: ReadonlySet<string>;
}

/** An adapter that can say which projections it acts on. */
export interface ProjectionAdapter extends Adapter {
  choice(model: Model): Choice;
}

/** An adapter that acts on chosen projections and leaves all others as they are. */
export function onProjections<C extends TargetConfig & PeftConfig>(parts: OnProjections<C>): ProjectionAdapter {
  const choices = new WeakMap<Model, Choice>();
  const choice = (model: Model): Choice => {
    let found = choices.get(model);
    if (!found) {
      const config = resolveTargets(model, parts.config, parts.layers, parts.defaults?.(model) ?? model.defaultTargets);
      const projections = targetProjections(model, config);
      found = { config, projections, names: new Set(projections.map(({ name }) => name)) };
      choices.set(model, found);
    }
    return found;
  };
  const { penalty, proximal, statistics, start, toFile, fromFile, merged, updates } = parts;
  return {
    kind: parts.kind,
    choice,
    ...(penalty && { penalty }),
    ...(proximal && { proximal }),
    ...(statistics && { statistics }),
    ...(start && { start }),
    ...(toFile && { toFile }),
    ...(fromFile && { fromFile }),
    ...(merged && { merged }),
    ...(updates && { updates }),
    tensors(model) {
      const { projections } = choice(model);
      return [
        ...(parts.shared?.(projections) ?? []).map((tensor) => ({ ...tensor, layer: undefined })),
        ...projections.flatMap((target) =>
          parts.tensorsOf(target, model).map((tensor) => ({ ...tensor, layer: target.layer })),
        ),
      ];
    },
    baseTensors(model) {
      const { projections, config } = choice(model);
      const saved = savedModuleTensors(model, config.modules_to_save ?? []);
      return [...new Set([...saved, ...(parts.baseTensors?.(projections, model) ?? [])])];
    },
    linear: (forward, site) => (choice(forward.model).names.has(site.name) ? parts.linear(forward, site) : undefined),
    peftConfig(model, totalSteps = 0): PeftConfig {
      const { config, projections } = choice(model);
      const own = { ...parts.config, ...config, ...parts.peft?.(projections, model, totalSteps) };
      return { ...own, peft_type: parts.config.peft_type, task_type: taskType(model), inference_mode: true };
    },
  };
}

/** An update on its way into a projection: A [r, in], B [out, r]. */
export interface LowRank {
  readonly a: Value;
  readonly b: Value;
  readonly scale: number;
  /** Probability of dropping an element of x on its way into A, while training. */
  readonly dropout: number;
}

/** y = x W + bias + scale * (drop(x) A^T) B^T (Hu et al. 2021, eq. 3), in one pass over y. */
export function lowRankLinear(forward: Forward, site: LinearSite, { a, b, scale, dropout }: LowRank): Value {
  const probability = forward.isTraining ? dropout : 0;
  const isDropping = probability > 0;
  const inputs = {
    x: site.x,
    w: site.weight,
    bias: site.biasValue,
    a,
    b,
    seed: isDropping ? forward.seed : undefined,
  };
  const salt = isDropping ? forward.nextSalt() : 0;
  return forward.recorder.apply(loraLinear, inputs, { layout: site.layout, scale, dropout: probability, salt });
}

/** GPT-2's Conv1D stores its weights transposed; PEFT wants to be told. */
export const fanInFanOut = (targets: readonly Projection[]): boolean =>
  targets.some(({ layout }) => layout === "in_out");
