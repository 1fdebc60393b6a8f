import type { Engine } from "../engine";
import type { Device } from "../gpu/device";
import { defineOp } from "../op/declaration";
import type { NoAttributes, Op } from "../op/declaration";
import type { Kernel } from "../op/kernel";
import { plan } from "../tape/plan";
import { Recorder } from "../tape/tape";
import { preparePlan, time } from "./timing";

/** The highest rates that simple kernels reach on an adapter; the op benches report their kernels as shares of them. */
export interface Ceiling {
  readonly gflops: number;
  readonly gigabytesPerSecond: number;
  /** The rates of all shapes that were tried, by name, the fastest first. */
  readonly fma: Rates;
  readonly copy: Rates;
}

/** GFLOP/s or GB/s by shape. */
export type Rates = ReadonlyMap<string, number>;

/** A kernel in one shape, as an op whose output has its input's size, so that it can follow itself. */
interface Probe {
  readonly name: string;
  readonly op: Op<NoAttributes>;
  /** Elements of the input. */
  readonly elements: number;
  /** FLOPs or bytes of one run. */
  readonly work: number;
}

/** An op y = f(x) of one dispatch. */
function probeOp(kernel: Kernel, params: Readonly<Record<string, number>>, workgroups: number): Op<NoAttributes> {
  return defineOp({
    name: kernel.name,
    inputs: { x: {} },
    outputs: ["y"],
    infer: (context) => ({ y: context.spec("x") }),
    forward: () => [{ kernel, entry: "forward", bindings: { x: "x", y: "y" }, params, workgroups }],
    gradients: [],
    flops: () => 0,
  });
}

/** The opening lines of a probe's WGSL text, with the linear index of the workgroup. */
const opening = (element: string, param: string, group: number): string => `
struct Params {
  ${param},
}
@group(0) @binding(0) var<storage, read> x: array<${element}>;
@group(0) @binding(1) var<storage, read_write> y: array<${element}>;
@group(0) @binding(2) var<uniform> params: Params;
@compute @workgroup_size(${group})
fn forward(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) ids: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let workgroup = id.y * ids.x + id.x;`;

const repeat = (count: number, line: (index: number) => string): string =>
  Array.from({ length: count }, (_, i) => line(i)).join("\n");

/** Fused multiply-adds in independent chains, which hide their latency. */
interface FmaShape {
  readonly chains: number;
  readonly type: "f32" | "vec4f";
  /** Steps of every chain in a round of the loop. */
  readonly unrolled: number;
  readonly group: number;
}

/**
 * y = the sum of chains c_i = fma(c_i, factor, x + i). Start and summand come from the input, the factor from a uniform, and the
 * sum is stored, so that no compiler can leave anything out.
 */
function fmaProbe({ chains, type, unrolled, group }: FmaShape, isSoftware: boolean): Probe {
  const [invocations, work] = isSoftware ? [1 << 12, 2 ** 28] : [1 << 18, 2 ** 34];
  const width = type === "vec4f" ? 4 : 1;
  const rounds = Math.ceil(work / (2 * chains * width * unrolled * invocations));
  const name = `${chains} chains of ${type}, ${unrolled} times, workgroups of ${group}`;
  const sum = Array.from({ length: chains }, (_, i) => `c${i}`).join(" + ");
  const code = `${opening("f32", "factor: f32", group)}
  let i = workgroup * ${group}u + local.x;
  let factor = ${type}(params.factor);
${repeat(chains, (c) => `  let s${c} = ${type}(x[i] + ${c}.0);\n  var c${c} = s${c};`)}
  for (var round = 0u; round < ${rounds}u; round++) {
${repeat(unrolled, () => repeat(chains, (c) => `    c${c} = fma(c${c}, factor, s${c});`))}
  }
  let sum = ${sum};
  y[i] = ${width === 4 ? "dot(sum, vec4f(1.0))" : "sum"};
}
`;
  const op = probeOp({ name: `fma: ${name}`, code }, { factor: 0.5 }, invocations / group);
  return { name, op, elements: invocations, work: 2 * chains * width * unrolled * rounds * invocations };
}

/** Copying, in which an invocation moves some elements that lie a workgroup apart. */
interface CopyShape {
  readonly type: "f32" | "vec4f";
  readonly each: number;
  readonly group: number;
}

/** y = x: every element is read and written once. */
function copyProbe({ type, each, group }: CopyShape, isSoftware: boolean): Probe {
  const elements = isSoftware ? 1 << 20 : 1 << 24;
  const count = elements / (type === "vec4f" ? 4 : 1);
  const name = `${each} ${type} an invocation, workgroups of ${group}`;
  const code = `${opening(type, "count: u32", group)}
  let first = workgroup * ${each * group}u + local.x;
${repeat(each, (i) => `  if (first + ${i * group}u < params.count) { y[first + ${i * group}u] = x[first + ${i * group}u]; }`)}
}
`;
  const op = probeOp({ name: `copy: ${name}`, code }, { count }, Math.ceil(count / (each * group)));
  return { name, op, elements, work: 8 * elements };
}

/** The shapes that are tried. Which one is fastest depends on registers, latency and what the compiler does to loops. */
const FMA_SHAPES: readonly Omit<FmaShape, "group">[] = [
  ...[4, 8, 12, 16].map((chains) => ({ chains, type: "f32" as const })),
  ...[1, 2, 3, 4].map((chains) => ({ chains, type: "vec4f" as const })),
].flatMap((shape) => [1, 8, 32].map((unrolled) => ({ ...shape, unrolled })));
const COPY_SHAPES: readonly Omit<CopyShape, "group">[] = [
  { type: "f32", each: 1 },
  { type: "f32", each: 4 },
  { type: "vec4f", each: 1 },
  { type: "vec4f", each: 4 },
];
/** Workgroups of the first attempt, and others that are tried with the shapes that were fastest. */
const GROUP = 64;
const OTHER_GROUPS: readonly number[] = [32, 128, 256];
/** Shapes that are measured again, in turns. */
const FINALISTS = 3;
const ROUNDS = 4;

/** The shapes of the quick form: those that were fastest on some adapter. */
const QUICK_FMA_SHAPES: readonly Omit<FmaShape, "group">[] = [
  { chains: 8, type: "f32", unrolled: 8 },
  { chains: 2, type: "vec4f", unrolled: 8 },
  { chains: 4, type: "vec4f", unrolled: 8 },
];
const QUICK_COPY_SHAPES: readonly Omit<CopyShape, "group">[] = [
  { type: "f32", each: 1 },
  { type: "vec4f", each: 1 },
];

/** How the ceiling is measured. */
export interface CeilingOptions {
  /** Gets the rates so far after every shape. */
  readonly onRates?: (rates: Pick<Ceiling, "fma" | "copy">) => Promise<void>;
  /** Whether there is time for another shape; asked after the first. Default always. */
  readonly hasTimeFor?: (shape: string) => boolean;
}

const ceilings = new WeakMap<Device, Promise<Ceiling>>();

/** The ceiling by a few shapes in one size of workgroups, measured once for a device: some per cent below that of many shapes. */
export function quickCeiling(engine: Engine): Promise<Ceiling> {
  const { device } = engine;
  const measured = ceilings.get(device) ?? measureQuickly(engine);
  ceilings.set(device, measured);
  // A measurement that failed is made again.
  measured.catch(() => ceilings.delete(device));
  return measured;
}

async function measureQuickly(engine: Engine): Promise<Ceiling> {
  const { isSoftware } = engine.info;
  const rates = async (probes: readonly Probe[]): Promise<Rates> => {
    const all: [string, number][] = [];
    for (const probe of probes) all.push([probe.name, await rateOf(engine, probe)]);
    return new Map(all.sort(([, a], [, b]) => b - a));
  };
  const copy = await rates(QUICK_COPY_SHAPES.map((shape) => copyProbe({ ...shape, group: GROUP }, isSoftware)));
  const fma = await rates(QUICK_FMA_SHAPES.map((shape) => fmaProbe({ ...shape, group: GROUP }, isSoftware)));
  return ceilingOf(fma, copy);
}

const ceilingOf = (fma: Rates, copy: Rates): Ceiling => ({
  gflops: Math.max(...fma.values()),
  gigabytesPerSecond: Math.max(...copy.values()),
  fma,
  copy,
});

/**
 * Tries many shapes and keeps the highest rates: no shape, and no other program, makes one higher than what the adapter can do.
 * At least one shape of each is tried.
 */
export async function measureCeiling(
  engine: Engine,
  { onRates = () => Promise.resolve(), hasTimeFor = () => true }: CeilingOptions = {},
): Promise<Ceiling> {
  const { isSoftware } = engine.info;
  const none: Rates = new Map();
  const copy = await ratesOf(
    engine,
    COPY_SHAPES,
    (shape) => copyProbe(shape, isSoftware),
    (rates) => onRates({ fma: none, copy: rates }),
    hasTimeFor,
  );
  const fma = await ratesOf(
    engine,
    FMA_SHAPES,
    (shape) => fmaProbe(shape, isSoftware),
    (rates) => onRates({ fma: rates, copy }),
    hasTimeFor,
  );
  return ceilingOf(fma, copy);
}

/** The rates of shapes in 1e9 units a second: all in one size of workgroups, then the fastest in others, and those again. */
async function ratesOf<Shape>(
  engine: Engine,
  shapes: readonly Shape[],
  probeOf: (shape: Shape & { readonly group: number }) => Probe,
  onRates: (rates: Rates) => Promise<void>,
  hasTimeFor: (shape: string) => boolean,
): Promise<Rates> {
  const rates = new Map<Probe, number>();
  const fastest = (): Probe[] => [...rates].sort(([, a], [, b]) => b - a).map(([probe]) => probe);
  const sorted = (): Rates => new Map(fastest().map((probe) => [probe.name, rates.get(probe)!]));
  const measure = async (probe: Probe): Promise<void> => {
    if (rates.size > 0 && !hasTimeFor(probe.name)) return;
    const rate = await rateOf(engine, probe);
    rates.set(probe, Math.max(rate, rates.get(probe) ?? 0));
    await onRates(sorted());
  };
  const shapeOf = new Map<Probe, Shape>();
  const add = async (shape: Shape, group: number): Promise<void> => {
    const probe = probeOf({ ...shape, group });
    shapeOf.set(probe, shape);
    await measure(probe);
  };
  for (const shape of shapes) await add(shape, GROUP);
  for (const probe of fastest().slice(0, FINALISTS)) {
    for (const group of OTHER_GROUPS) await add(shapeOf.get(probe)!, group);
  }
  for (let round = 0; round < ROUNDS; round++) {
    for (const probe of fastest().slice(0, FINALISTS)) await measure(probe);
  }
  return sorted();
}

/** Runs of a probe within one submit, so that the cost of a submit hardly counts. */
const CHAINED = 16;
/** Milliseconds for which the submit is repeated, and its most runs. */
const SUBMITS_MS = 100;
const MOST_SUBMITS = 6;

/** 1e9 units a second of a probe. */
const rateOf = async (engine: Engine, probe: Probe): Promise<number> =>
  probe.work / (await secondsOf(engine, probe)) / 1e9;

/** Seconds of one run of a probe, with its share of a submit: never fewer than it takes. Nothing is uploaded or read back. */
async function secondsOf(engine: Engine, { op, elements }: Probe): Promise<number> {
  const recorder = new Recorder();
  let x = recorder.parameter("x", [elements]);
  for (let i = 0; i < CHAINED; i++) x = recorder.apply(op, { x }, {});
  const chain = plan(recorder, { outputs: {}, effects: true, limits: engine.device.limits });
  using prepared = await preparePlan(engine.device, chain, {});
  return (await time(prepared.run, SUBMITS_MS, MOST_SUBMITS)).fastest / 1000 / CHAINED;
}
