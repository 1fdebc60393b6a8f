import type { PeftConfig } from "../io/peft";
import type { Forward, LinearSite, Tie } from "../model/forward";
import type { Model, Projection } from "../model/model";
import type { Value } from "../tape/tape";
import type { Adapter, AdapterTensor, LowRankUpdate, Tensors } from "./adapter";
import { constant } from "./initial";
import type { NewTensor } from "./initial";
import {
  resolveTargets,
  savedModuleTensors,
  savesHeadOf,
  targetProjections,
  targetsForFile,
  taskType,
} from "./targets";
import type { LayerChoice, TargetConfig } from "./targets";
import { tieOf } from "./tied";

/** What distinguishes one kind of adapter of projections from another. `C` is its adapter_config.json. */
export interface ProjectionAdapterParts<C extends TargetConfig & PeftConfig> extends Pick<
  Adapter,
  "proximal" | "statistics" | "start" | "toFile" | "fromFile" | "merged"
> {
  readonly kind: string;
  readonly config: C;
  /** Layers to adapt, where they have no numbers before the model is known. */
  readonly layers: LayerChoice | undefined;
  /** `target_modules` where the configuration names none. Default those of the model family. */
  defaults?(model: Model): readonly string[];
  /** Tensors that the adapted projections share. */
  shared?(targets: readonly Projection[]): readonly NewTensor[];
  /** Tensors of one adapted projection. */
  tensorsOf(target: Projection, model: Model): readonly NewTensor[];
  /** Tensors of the checkpoint that are trained in addition to the saved modules. */
  baseTensors?(targets: readonly Projection[], model: Model): readonly string[];
  /** Replaces an adapted projection. */
  linear(forward: Forward, site: LinearSite): Value;
  /** A term [1] that is added to the loss. */
  readonly penalty?: (forward: Forward, targets: readonly Projection[]) => Value | undefined;
  /** The low-rank update of an adapted projection, for kinds that are nothing else. */
  readonly update?: (target: Projection, tensors: Tensors) => LowRankUpdate;
  /** Checks what the configuration says of these projections. @throws ConfigError. */
  check?(targets: readonly Projection[], model: Model): void;
  /** Keys of adapter_config.json that depend on the model or the length of the run (0: unknown). */
  peft?(targets: readonly Projection[], model: Model, totalSteps: number): Record<string, unknown>;
}

/** The projections of one model that an adapter acts on. */
export interface Targets {
  readonly config: TargetConfig;
  readonly projections: readonly Projection[];
  readonly names: ReadonlySet<string>;
}

/** An adapter of projections. */
export interface ProjectionAdapter extends Adapter {
  /** The projections that it acts on. @throws ConfigError when the model has none of them. */
  targets(model: Model): Targets;
}

/** Makes an adapter that acts on some projections of a model and leaves all others as they are. */
export function onProjections<C extends TargetConfig & PeftConfig>(
  parts: ProjectionAdapterParts<C>,
): ProjectionAdapter {
  const targetsByModel = new WeakMap<Model, Targets>();
  const targetsOf = (model: Model): Targets => {
    let targets = targetsByModel.get(model);
    if (!targets) {
      const config = resolveTargets(model, parts.config, parts.layers, parts.defaults?.(model) ?? model.defaultTargets);
      const projections = targetProjections(model, config);
      parts.check?.(projections, model);
      targets = { config, projections, names: new Set(projections.map(({ name }) => name)) };
      targetsByModel.set(model, targets);
    }
    return targets;
  };
  const tie = (model: Model): Tie | undefined =>
    tieOf(model, targetsOf(model).config.modules_to_save ?? [], parts.config["ensure_weight_tying"] === true);
  const { kind, penalty, proximal, statistics, start, toFile, fromFile, merged, update } = parts;
  return {
    kind,
    targets: targetsOf,
    ...(penalty && { penalty: (forward: Forward) => penalty(forward, targetsOf(forward.model).projections) }),
    ...(proximal && { proximal }),
    ...(statistics && { statistics }),
    ...(start && { start }),
    ...(toFile && { toFile }),
    ...(fromFile && { fromFile }),
    ...(merged && { merged }),
    ...(update && {
      updates: (model: Model, tensors: Tensors) =>
        new Map(targetsOf(model).projections.map((target) => [target.name, update(target, tensors)])),
    }),
    tie,
    tensors(model) {
      const { projections } = targetsOf(model);
      return [
        ...(tie(model) === "own" ? [ownOutput(model)] : []),
        ...(parts.shared?.(projections) ?? []).map((tensor) => ({ ...tensor, layer: undefined })),
        ...projections.flatMap((target) =>
          parts.tensorsOf(target, model).map((tensor) => ({ ...tensor, layer: target.layer })),
        ),
      ];
    },
    baseTensors(model) {
      const { projections, config } = targetsOf(model);
      const saved = savedModuleTensors(model, config.modules_to_save ?? []);
      const shared = tie(model) === "shared" ? [model.tiedOutput!.table] : [];
      return [...new Set([...shared, ...saved, ...(parts.baseTensors?.(projections, model) ?? [])])];
    },
    linear: (forward, site) =>
      targetsOf(forward.model).names.has(site.name) ? parts.linear(forward, site) : undefined,
    peftConfig(model, totalSteps = 0): PeftConfig {
      const { config, projections } = targetsOf(model);
      // Releases of PEFT that do not know these keys read files where they would say nothing.
      const {
        exclude_modules: excluded,
        ensure_weight_tying: isEnsured,
        ...rest
      }: Record<string, unknown> = {
        ...parts.config,
        ...config,
        target_modules: targetsForFile(model, config, projections),
      };
      return {
        ...rest,
        ...(excluded !== null && { exclude_modules: excluded }),
        ...(isEnsured === true && { ensure_weight_tying: true }),
        ...parts.peft?.(projections, model, totalSteps),
        peft_type: parts.config.peft_type,
        task_type: savesHeadOf(model, config.modules_to_save) ? taskType(model) : null,
        inference_mode: true,
      };
    },
  };
}

/** A copy of the embeddings' table for a last projection that is trained apart from it. */
export function ownOutput({ tiedOutput, parameters }: Model): AdapterTensor {
  const { module, table } = tiedOutput!;
  const { shape } = parameters.find(({ name }) => name === table)!;
  return { ...constant(`${module}.weight`, shape, 0), layer: undefined, initialRows: { table } };
}

/** PEFT's `fan_in_fan_out`: whether weights are stored transposed, as those of GPT-2's Conv1D. */
export const fanInFanOut = (targets: readonly Projection[]): boolean =>
  targets.some(({ layout }) => layout === "in_out");
