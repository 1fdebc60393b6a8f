import type { Device } from "../../src/gpu/device";
import { canRun } from "../../src/gpu/variants";
import type { Attributes, Op, OpCase } from "../../src/op/declaration";
import type { Launch, Variant } from "../../src/op/launch";
import type { Limits } from "../../src/op/limits";
import { OPS } from "../../src/ops/index";
import { deviceLaunches } from "../../src/run/device-launches";
import { plan } from "../../src/tape/plan";
import type { Plan } from "../../src/tape/plan";
import { Recorder } from "../../src/tape/tape";
import type { Entry, Use } from "./entry";
import { plansOf, steps } from "./steps";

/** FLOPs below which a product or an attention is too small for its inner loop to matter. */
const SMALL_FLOPS = 1e6;

/** Least rows and columns of a product whose tile is square. */
const WIDE = 128;

/** Lanes of a wave on RDNA, by the driver's choice. */
const AMD_SUBGROUPS: readonly number[] = [32, 64];

/** An entry, and a launch by which it can be compiled. */
export interface CompiledEntry {
  readonly entry: Entry;
  readonly launch: Launch;
}

/** Restricts entries to those of one kernel whose name, constants, traits or kind of work contain every word. */
export interface Filter {
  readonly kernel: string;
  readonly words: readonly string[];
}

/**
 * The entries that a device runs: those of real steps, then of the cases of ops. With a filter, also those that the device
 * could run but does not choose.
 */
export async function entries(device: Device, filter?: Filter): Promise<CompiledEntry[]> {
  const all = new Map<string, CompiledEntry & { readonly uses: Map<string, Use> }>();
  const add = (launch: Launch, origin: Use["origin"], of: string): void => {
    const { constants = {}, entry } = launch;
    const work = workOf(launch);
    const text = [entry, work.kind, ...work.traits, ...Object.entries(constants).map((pair) => pair.join("="))];
    if (filter && launch.kernel.name !== filter.kernel) return;
    if (filter && !filter.words.every((word) => text.includes(word))) return;
    const key = JSON.stringify([launch.kernel.name, entry, constants]);
    const uses = all.get(key)?.uses ?? new Map<string, Use>();
    const useKey = JSON.stringify(work);
    if (!uses.has(useKey)) uses.set(useKey, { ...work, origin, of });
    all.set(key, { entry: { kernel: launch.kernel.name, entry, constants, uses: [...uses.values()] }, launch, uses });
  };
  const addAll = (planned: Plan, origin: Use["origin"], of: string): void => {
    for (const { launch } of deviceLaunches(planned, device)) add(launch, origin, of);
  };
  const plans: (readonly [Plan, Use["origin"], string])[] = [];
  for (const step of await steps()) {
    for (const planned of plansOf(step, device.limits)) plans.push([planned, "step", step.name]);
  }
  for (const op of OPS) {
    const cases = [...op.cases].sort((a, b) => Number(b.bench ?? false) - Number(a.bench ?? false));
    for (const test of cases) {
      const origin = test.bench ? "bench" : "case";
      plans.push([casePlan(op, test, device.limits), origin, `${op.name}: ${test.name}`]);
    }
  }
  for (const [planned, origin, of] of plans) addAll(planned, origin, of);
  if (!filter) return [...all.values()];
  for (const [{ launches }, , of] of plans) {
    for (const { launch } of launches) {
      const variants = (launch.variants ?? []).filter((variant) =>
        AMD_SUBGROUPS.some((subgroup) => canRun(variant, { ...device.info, subgroup })),
      );
      for (const variant of variants) add(withVariant(launch, variant), "variant", of);
    }
  }
  return [...all.values()];
}

const withVariant = (launch: Launch, { kernel, constants, workgroups }: Variant): Launch => ({
  ...launch,
  kernel,
  constants,
  workgroups,
});

/** What bounds a launch has to keep, and the formats and layouts that its constants follow from. */
function workOf({ shape, variants = [] }: Launch): Pick<Use, "kind" | "traits"> {
  if (!shape) return { kind: "memory", traits: [] };
  const { sizes, traits } = shape;
  if ((variants[0]?.flops ?? 0) < SMALL_FLOPS) return { kind: "small", traits };
  const [m, n] = [sizes["m"], sizes["n"]];
  if (m === undefined || n === undefined) return { kind: "attention", traits };
  return { kind: Math.min(m, n) >= WIDE ? "product" : "narrow product", traits };
}

/** Forward and backward pass of a case, with gradients of all its inputs that have one. */
function casePlan(op: Op, test: OpCase<Attributes>, limits: Limits): Plan {
  const recorder = new Recorder();
  const trainable = new Set<string>();
  const values = Object.fromEntries(
    Object.entries(test.inputs).map(([slot, { shape, format }]) => {
      const { dtype = "f32", gradient = false, mutated = false } = op.inputs[slot] ?? {};
      if (gradient && !format) trainable.add(slot);
      const isParameter = trainable.has(slot) || mutated;
      return [slot, recorder[isParameter ? "parameter" : "input"](slot, shape, format ?? dtype)];
    }),
  );
  const outputs = recorder.record(op, values, test.attributes);
  const loss = outputs[op.outputs[0] ?? ""];
  return plan(recorder, { outputs, effects: true, ...(loss && { loss, trainable }), limits });
}
