import { ConfigError } from "../base/errors";
import type { Dtype } from "../base/dtype";
import { encodeWeight } from "../base/packed";
import { elements } from "../base/shape";
import { shown } from "../base/shown";
import type { Engine } from "../engine";
import type { Device } from "../gpu/device";
import { canRun } from "../gpu/variants";
import type { Attributes, CaseInput, Op, OpCase } from "../op/declaration";
import type { Inputs } from "../run/executor";
import type { Trace } from "../run/trace";
import { specBytes } from "../tape/emit";
import { LOSS_GRADIENT, plan } from "../tape/plan";
import type { Plan } from "../tape/plan";
import { Recorder } from "../tape/tape";
import { differentiable } from "./case-plan";
import { quickCeiling } from "./ceiling";
import type { Ceiling } from "./ceiling";
import { onView } from "./device-view";
import { withTests } from "./ops";
import { preparePlan, time } from "./timing";
import type { Timing } from "./timing";

/** How long an op took on one case. */
export interface OpTiming {
  readonly op: string;
  readonly case: string;
  readonly pass: "forward" | "forward + backward";
  /** Names of the variants that ran, or "portable". */
  readonly variant: string;
  /** Whose clock: timestamps of the device around each dispatch, or the host's around a run, with submission and uploads. */
  readonly clock: Trace["clock"];
  /** Median, fastest and slowest run. */
  readonly ms: number;
  readonly fastestMs: number;
  readonly slowestMs: number;
  /** 1e9 floating-point operations a second of the fastest run, by the op's own `flops`. */
  readonly gflops: number;
  /** 1e9 bytes a second of the fastest run: what its dispatches bind. Undefined for ops that access only parts of it. */
  readonly gigabytesPerSecond?: number;
  /** The same as shares of the rates that simple kernels reach on this adapter. */
  readonly ofFmaRate: number;
  readonly ofCopyRate?: number;
}

export interface BenchOptions {
  /** Rates of the adapter. Default: measured on first use, by a few kernels, in some seconds. */
  readonly ceiling?: Pick<Ceiling, "gflops" | "gigabytesPerSecond">;
  /** Whether each variant that the adapter can run (on software: for its subgroups) is timed, and the portable kernels. Default: only what it runs by default. */
  readonly variants?: boolean;
  /** Milliseconds for which a case is repeated: at least 3 and at most 15 times. Default 300. */
  readonly milliseconds?: number;
  /** Default: "device" where the adapter has timestamps. */
  readonly clock?: Trace["clock"];
}

/** Ops whose forward pass accesses only a few rows of a bound table. */
const FEW_ROWS: ReadonlySet<string> = new Set(["embedding", "cache_append"]);

/** The cases of an op that are meant for benches, or all if none is. */
export function casesToTime(op: Op): readonly OpCase<Attributes>[] {
  const { cases = [] } = withTests(op);
  const large = cases.filter(({ bench }) => bench);
  return large.length > 0 ? large : cases;
}

/**
 * Times an op on cases: its forward pass, then forward and backward together if it has gradients.
 * @param cases default those that are meant for benches, or all if none is.
 * @throws ConfigError for a value that is not an op, and without any case, OutOfMemoryError when the driver has no memory, whatever the op throws.
 */
export async function benchOp(
  engine: Engine,
  op: Op,
  cases: readonly OpCase<Attributes>[] = casesToTime(op),
  options: BenchOptions = {},
): Promise<OpTiming[]> {
  // A program without types may pass one, or its shapes.
  const given: unknown = cases;
  if (!Array.isArray(given))
    throw new ConfigError(`The cases are ${shown(given)}.`, "Give a list of them: names, attributes and inputs.");
  if (cases.length === 0) {
    throw new ConfigError(
      `The op ${op.name} has no cases to be timed on.`,
      "Give it some, or pass them as the third argument.",
    );
  }
  const ceiling = options.ceiling ?? (await quickCeiling(engine));
  const timings: OpTiming[] = [];
  for (const test of cases) {
    const hasGradients = op.gradients.length > 0 && differentiable(op, test).length > 0;
    for (const backward of hasGradients ? [false, true] : [false]) {
      const work = workOf(op, test, backward, engine.device);
      for (const name of options.variants ? variantsOf(work.plan, engine.device) : [undefined]) {
        const measured = await onChoice(engine.device, name, (device) => measure(device, work, options));
        const { timing, clock, ran } = measured;
        timings.push({
          op: op.name,
          case: test.name,
          pass: backward ? "forward + backward" : "forward",
          variant: name ?? ran,
          clock,
          ms: timing.median,
          fastestMs: timing.fastest,
          slowestMs: timing.slowest,
          ...ratesOf(op, work, backward, measured, ceiling),
        });
      }
    }
  }
  return timings;
}

/** A plan with the data that it runs on. */
interface Work {
  readonly plan: Plan;
  readonly inputs: Inputs;
  readonly values: Inputs;
}

function workOf(op: Op, test: OpCase<Attributes>, backward: boolean, { limits }: Device): Work {
  const recorder = new Recorder();
  const trainable = new Set(differentiable(op, test));
  const slots = Object.entries(test.inputs).map(([slot, input]) => {
    const dtype = input.format ?? op.inputs[slot]?.dtype ?? "f32";
    const isParameter = trainable.has(slot) || Boolean(op.inputs[slot]?.mutated) || input.format !== undefined;
    const value = recorder[isParameter ? "parameter" : "input"](slot, input.shape, dtype);
    return { slot, isParameter, value, data: fill(op.inputs[slot]?.dtype ?? "f32", input) };
  });
  const outputs = recorder.record(
    op,
    Object.fromEntries(slots.map(({ slot, value }) => [slot, value])),
    test.attributes,
  );
  const loss = outputs[op.outputs[0] ?? ""];
  // Outputs are not read back, since that would measure the copy to the host.
  const planned = plan(recorder, {
    outputs: {},
    effects: true,
    limits,
    ...(backward && loss ? { loss, trainable } : {}),
  });
  const dataOf = (parameters: boolean): Inputs =>
    Object.fromEntries(
      slots.filter(({ isParameter }) => isParameter === parameters).map(({ slot, data }) => [slot, data]),
    );
  const dy = loss ? { [LOSS_GRADIENT]: new Float32Array(elements(loss.shape)).fill(1) } : {};
  return { plan: planned, inputs: { ...dataOf(false), ...dy }, values: dataOf(true) };
}

/** Numbers from -1 to 1, with the scale and offset of the input; integers below its bound; or its values, again and again. */
function fill(dtype: Dtype, input: CaseInput): Float32Array | Int32Array | Uint32Array {
  const make = { length: elements(input.shape) };
  const value = (_: unknown, i: number): number => {
    if ("values" in input) return input.values[i % input.values.length]!;
    if ("below" in input) return (i * 7919) % input.below;
    return Math.sin(i) * (input.scale ?? 1) + (input.offset ?? 0);
  };
  if (dtype === "i32") return Int32Array.from(make, value);
  if (dtype === "u32") return Uint32Array.from(make, value);
  const values = Float32Array.from(make, value);
  return input.format ? encodeWeight(values, input.shape.at(-1) ?? 1, input.format) : values;
}

/**
 * "portable", and the names of all variants of a plan's launches that the adapter can run; on a software adapter, which takes
 * seconds to compile a kernel that is written for GPUs and would never run it, of those for its subgroups.
 */
function variantsOf({ launches }: Plan, { info }: Device): string[] {
  const variants = launches
    .flatMap(({ launch }) => launch.variants ?? [])
    .filter((variant) => canRun(variant, info) && (!info.isSoftware || variant.subgroup !== undefined));
  return ["portable", ...new Set(variants.map(({ name }) => name))];
}

/** Runs `body` on a view of the device that takes the variant of this name wherever a launch has it, or on the device itself. */
async function onChoice<T>(device: Device, name: string | undefined, body: (device: Device) => Promise<T>): Promise<T> {
  if (name === undefined) return body(device);
  const variants: Device["variants"] = (launch) =>
    launch.variants?.find((variant) => variant.name === name && canRun(variant, device.info));
  return onView(device, { variants }, body);
}

interface Measured {
  readonly timing: Timing;
  readonly clock: Trace["clock"];
  readonly ran: string;
}

async function measure(device: Device, { plan, inputs, values }: Work, options: BenchOptions): Promise<Measured> {
  using prepared = await preparePlan(device, plan, inputs, values);
  // The first run compiles the kernels, and says which ran.
  const { dispatches, clock: usual } = await prepared.trace();
  const names = new Set(dispatches.map(({ variant }) => variant).filter((name) => name !== "portable"));
  const ran = [...names].join(" + ") || "portable";
  const clock = options.clock === "host" ? "host" : usual;
  const ofDevice = async (): Promise<number> => (await prepared.trace()).ms;
  const timing = await time(clock === "device" ? ofDevice : prepared.run, options.milliseconds ?? 300);
  return { timing, clock, ran };
}

function ratesOf(
  op: Op,
  { plan }: Work,
  backward: boolean,
  { timing: { fastest }, clock }: Measured,
  ceiling: Pick<Ceiling, "gflops" | "gigabytesPerSecond">,
): Pick<OpTiming, "gflops" | "gigabytesPerSecond" | "ofFmaRate" | "ofCopyRate"> {
  const gflops = (plan.flops.forward + plan.flops.backward) / fastest / 1e6;
  const gigabytesPerSecond = movedBytes(plan, clock) / fastest / 1e6;
  return {
    gflops,
    ofFmaRate: gflops / ceiling.gflops,
    ...((backward || !FEW_ROWS.has(op.name)) && {
      gigabytesPerSecond,
      ofCopyRate: gigabytesPerSecond / ceiling.gigabytesPerSecond,
    }),
  };
}

/** Bytes of the buffers that each launch binds, summed over the launches, plus those of uploads where their time counts. */
function movedBytes({ launches, inputs }: Plan, clock: Trace["clock"]): number {
  const bound = launches.flatMap(({ bindings }) => bindings.map(({ bytes }) => bytes));
  const uploads = clock === "host" ? [...inputs.values()].map(({ spec }) => specBytes(spec)) : [];
  return [...bound, ...uploads].reduce((a, b) => a + b, 0);
}
