import type { Device } from "../../src/gpu/device";
import { canRun, chosenLaunch } from "../../src/gpu/variants";
import { accumulateLaunches } from "../../src/op/accumulate";
import type { Attributes, Op, OpCase } from "../../src/op/declaration";
import type { Launch, Variant } from "../../src/op/launch";
import type { Limits } from "../../src/op/limits";
import { OPS } from "../../src/testing/ops";
import { deviceLaunches } from "../../src/run/device-launches";
import { launchContext } from "../../src/tape/emit";
import { slotSpec } from "../../src/tape/forward";
import { Recorder } from "../../src/tape/tape";
import type { Entry, Use } from "./entry";
import { plansOf, steps } from "./steps";

/** FLOPs below which a launch that has variants is too small for its inner loop to matter. */
const SMALL_FLOPS = 1e6;

/** Least rows and columns of a product whose tile is square. */
const WIDE = 128;

/** Elements of the activations of BERT-base, 32 x 128. */
const ACCUMULATED = 32 * 128 * 768;

/** Trait of a memory launch whose sizes are no multiples of four, so that it reads and writes numbers one by one. */
const SINGLE_NUMBERS = "single numbers";

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

/** The launches of a plan as they are dispatched and as they are planned. */
interface Source {
  readonly dispatched: readonly Launch[];
  readonly planned: readonly Launch[];
  readonly origin: Use["origin"];
  /** The step or case. */
  readonly of: string;
}

/**
 * The entries that a device runs: those of real steps, then of the cases of ops. In addition, of what it could run but does
 * not choose: with a filter all, without one the first of every entry point that is chosen nowhere.
 */
export async function entries(device: Device, filter?: Filter): Promise<CompiledEntry[]> {
  const all = new Map<string, CompiledEntry & { readonly uses: Map<string, Use> }>();
  const add = (launch: Launch, origin: Use["origin"], of: string): void => {
    const { constants = {}, entry, kernel } = launch;
    const work = workOf(launch);
    const text = [entry, work.kind, ...work.traits, ...Object.entries(constants).map((pair) => pair.join("="))];
    if (filter && !(kernel.name === filter.kernel && filter.words.every((word) => text.includes(word)))) return;
    const key = JSON.stringify([kernel.name, entry, constants]);
    const uses = all.get(key)?.uses ?? new Map<string, Use>();
    const useKey = JSON.stringify(work);
    if (!uses.has(useKey)) uses.set(useKey, { ...work, origin, of });
    all.set(key, { entry: { kernel: kernel.name, entry, constants, uses: [...uses.values()] }, launch, uses });
  };
  const sources = [...(await stepSources(device)), accumulation(device), ...caseSources(device)];
  for (const { dispatched, origin, of } of sources) for (const launch of dispatched) add(launch, origin, of);
  const isCompiled = new Set([...all.values()].map(({ launch }) => entryPoint(launch)));
  for (const { planned, of } of sources) {
    for (const launch of planned.flatMap((each) => alternatives(each, device))) {
      if (!filter && isCompiled.has(entryPoint(launch))) continue;
      isCompiled.add(entryPoint(launch));
      add(launch, "variant", of);
    }
  }
  return [...all.values()];
}

const entryPoint = ({ kernel, entry }: Launch): string => `${kernel.name}.${entry}`;

/** A launch by each of its variants, and by those of the dispatches that can replace it and its neighbours. */
function alternatives(launch: Launch, { info }: Device): Launch[] {
  const fits = (variant: Variant): boolean => AMD_SUBGROUPS.some((subgroup) => canRun(variant, { ...info, subgroup }));
  const { absorbs = [], variants = [] } = launch;
  const ways = [
    { entry: launch.entry, variants },
    ...absorbs.map(({ by, ...way }) => ({ entry: by, variants, ...way })),
  ];
  return ways.flatMap((way) =>
    way.variants.filter(fits).map((variant) => ({ ...withVariant(launch, variant), entry: way.entry })),
  );
}

const withVariant = (launch: Launch, { kernel, constants, workgroups }: Variant): Launch => ({
  ...launch,
  kernel,
  constants,
  workgroups,
});

/** What bounds a launch has to keep, and the formats and layouts that its constants follow from. */
function workOf({ constants, shape, variants = [] }: Launch): Pick<Use, "kind" | "traits"> {
  const isSmall = (variants[0]?.flops ?? 0) < SMALL_FLOPS;
  if (!shape) {
    // What has variants runs by the portable kernel where it is too small for them.
    if (variants.length > 0 && isSmall) return { kind: "small", traits: [] };
    return { kind: "memory", traits: constants?.["WIDTH"] === 1 ? [SINGLE_NUMBERS] : [] };
  }
  const { sizes, traits } = shape;
  if (isSmall) return { kind: "small", traits };
  const [m, n] = [sizes["m"], sizes["n"]];
  if (m === undefined || n === undefined) return { kind: "attention", traits };
  return { kind: Math.min(m, n) >= WIDE ? "product" : "narrow product", traits };
}

async function stepSources(device: Device): Promise<Source[]> {
  const all = (await steps()).flatMap((step) =>
    plansOf(step, device.limits).map((planned) => [step, planned] as const),
  );
  return all.map(([{ name }, planned]) => ({
    dispatched: deviceLaunches(planned, device).map(({ launch }) => launch),
    planned: planned.launches.map(({ launch }) => launch),
    origin: "step",
    of: name,
  }));
}

/** The sum of two gradients of one value, which plans launch where no kernel can add its own. */
function accumulation({ limits }: Device): Source {
  const planned = accumulateLaunches("source", "target", ACCUMULATED, true, limits);
  return { dispatched: planned, planned, origin: "step", of: "the gradients of a value with several readers" };
}

/** Everything that ops launch for their cases, those for benches first. */
function caseSources(device: Device): Source[] {
  const cases = OPS.flatMap((op) => op.cases.map((test) => ({ op, test })));
  const benchFirst = [...cases].sort((a, b) => Number(b.test.bench ?? false) - Number(a.test.bench ?? false));
  return benchFirst.map(({ op, test }) => {
    const planned = caseLaunches(op, test, device.limits);
    return {
      dispatched: planned.map((launch) => chosenLaunch(launch, device.variants)),
      planned,
      origin: test.bench ? "bench" : "case",
      of: `${op.name}: ${test.name}`,
    };
  });
}

/** The launches of an op: forward, every gradient with its temps, and the inverse; in place and not. */
function caseLaunches(op: Op, test: OpCase<Attributes>, limits: Limits): Launch[] {
  const recorder = new Recorder();
  const values = Object.entries(test.inputs).map(([slot, { shape, format }]) => {
    const { dtype = "f32", mutated = false } = op.inputs[slot] ?? {};
    return [slot, recorder[mutated ? "parameter" : "input"](slot, shape, format ?? dtype)] as const;
  });
  recorder.record(op, Object.fromEntries(values), test.attributes);
  const [node] = recorder.nodes;
  const contexts = (overwrites: boolean) =>
    (overwrites ? [false, true] : [false]).map((inPlace) =>
      launchContext(node!, limits, (slot) => slotSpec(recorder, node!, slot), { inPlace }),
    );
  const rules = op.gradients.filter(({ wrt }) => wrt.every((slot) => test.inputs[slot] && !test.inputs[slot].format));
  const temps = new Set<string>();
  const addTemps = (slots: readonly string[]): void => {
    for (const slot of slots.filter((name) => op.temps?.[name] && !temps.has(name))) {
      temps.add(slot);
      addTemps(op.temps?.[slot]?.reads ?? []);
    }
  };
  addTemps([...(op.forwardTemps ?? []), ...rules.flatMap((rule) => rule.reads(test.attributes))]);
  return [
    ...contexts(op.overwrites !== undefined).flatMap((context) => op.forward(context)),
    ...[...temps].flatMap((temp) => contexts(false).flatMap((context) => op.temps?.[temp]?.launches(context) ?? [])),
    ...rules.flatMap((rule) =>
      contexts(rule.overwrites !== undefined).flatMap((context) => rule.launches?.(context) ?? []),
    ),
    ...contexts(true).flatMap((context) => op.inverse?.launches(context) ?? []),
  ];
}
