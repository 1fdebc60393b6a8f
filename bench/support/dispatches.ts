import type { Adapter } from "../../src/adapter/adapter";
import type { WeightFormat } from "../../src/base/packed";
import { createModel } from "../../src/model/families";
import { withWeights } from "../../src/model/weights";
import { usualVariants } from "../../src/gpu/variants";
import { DEFAULT_LIMITS } from "../../src/op/limits";
import { deviceLaunches } from "../../src/run/device-launches";
import type { LaunchingDevice } from "../../src/run/device-launches";
import { plan } from "../../src/tape/plan";
import type { PlannedLaunch } from "../../src/tape/plan";
import { adamW } from "../../src/optimizer/adamw";
import { sidePlans } from "../../src/train/plans/side-plans";
import { trace } from "../../src/train/plans/trace";
import { trainableSpecs } from "../../src/train/tensors/specs";

/** A training step, with clipping by the global norm. */
export interface CountedStep {
  readonly config: Readonly<Record<string, unknown>>;
  readonly adapter: Adapter;
  readonly batch: number;
  readonly length: number;
  readonly weights: WeightFormat;
}

/** Dispatches of one step: in total, by phase, and by phase, op and entry. */
export interface Dispatches {
  readonly tensors: number;
  readonly total: number;
  readonly phases: Readonly<Record<string, number>>;
  readonly entries: Readonly<Record<string, number>>;
}

/** A GPU with WebGPU's guaranteed limits, of no vendor with kernels of its own. */
const GPU: LaunchingDevice = {
  variants: usualVariants({ vendor: "", isSoftware: false }),
  handle: { limits: { maxStorageBuffersPerShaderStage: 8 } },
};

/** Counts the dispatches of a step on a GPU from its plans. */
export function dispatches({ config, adapter, batch: size, length, weights }: CountedStep): Dispatches {
  const model = withWeights(createModel(config), weights);
  const { tape, loss } = trace({ model, adapter, batch: { size, length }, isTraining: true, differentiable: true });
  const live = trainableSpecs(model, adapter);
  const step = plan(tape, { outputs: { loss }, loss, trainable: new Set(live.keys()) });
  const side = {
    planned: { model },
    adapter,
    optimizer: adamW({ maxGradNorm: 1 }),
    statistics: [],
    pruning: undefined,
    sumsLosses: false,
    variants: undefined,
    limits: DEFAULT_LIMITS,
  };
  const updates = sidePlans(side, live, new Set()).all.flatMap((updating) => deviceLaunches(updating, GPU));
  const launches: (readonly [phase: string, planned: PlannedLaunch])[] = [
    ...deviceLaunches(step, GPU).map((planned) => [planned.phase, planned] as const),
    ...updates.map((planned) => [planned.launch.kernel.name === "square_sum" ? "norm" : "update", planned] as const),
  ];
  return {
    tensors: live.size,
    total: launches.length,
    phases: counts(launches.map(([phase]) => phase)),
    entries: counts(
      launches.map(([phase, { node, launch }]) => `${phase}: ${node.op.name}, ${launch.kernel.name}.${launch.entry}`),
    ),
  };
}

function counts(names: readonly string[]): Record<string, number> {
  const byName: Record<string, number> = {};
  for (const name of names) byName[name] = (byName[name] ?? 0) + 1;
  return byName;
}
