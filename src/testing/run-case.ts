import { add } from "../ops/add";
import { scale } from "../ops/scale";
import type { Dtype } from "../base/dtype";
import { decodeWeight, encodeWeight } from "../base/packed";
import type { WeightFormat } from "../base/packed";
import { Random } from "../base/random";
import { elements } from "../base/shape";
import type { Device } from "../gpu/device";
import type { Lease } from "../gpu/pool";
import { readBuffer } from "../gpu/readback";
import type { Attributes, CaseInput, ReferenceTensor, Op, OpCase } from "../op/declaration";
import type { Limits } from "../op/limits";
import { Executor } from "../run/executor";
import { gradientName } from "../run/store";
import { specBytes } from "../tape/emit";
import { LOSS_GRADIENT, plan } from "../tape/plan";
import type { Plan } from "../tape/plan";
import { Recorder } from "../tape/tape";
import type { Value } from "../tape/tape";

type TypedArray = Float32Array | Int32Array | Uint32Array;

/** The inputs of a case, by slot, rounded to what the device stores. */
export function caseInputs(op: Op, test: OpCase<Attributes>, seed = 1): Record<string, ReferenceTensor> {
  const random = new Random(seed);
  return Object.fromEntries(
    Object.entries(test.inputs).map(([slot, input]) => {
      const dtype = op.inputs[slot]?.dtype ?? "f32";
      const values = Float64Array.from({ length: elements(input.shape) }, (_, i) => draw(input, i, random));
      const data = input.format
        ? roundTrip(Float32Array.from(values), input.shape, input.format)
        : typed(dtype, values);
      return [slot, { shape: input.shape, data: Float64Array.from(data) }];
    }),
  );
}

/** The values after they were stored in a format. */
function roundTrip(values: Float32Array, shape: readonly number[], format: WeightFormat): Float32Array {
  const columns = shape.at(-1) ?? 1;
  const encoded = encodeWeight(values, columns, format);
  const words = new Uint32Array(encoded.buffer, encoded.byteOffset, encoded.length);
  return decodeWeight(words, columns, format, values.length);
}

function draw(input: CaseInput, index: number, random: Random): number {
  if ("values" in input) return input.values[index]!;
  if ("below" in input) return random.below(input.below);
  return random.normal() * (input.scale ?? 1) + (input.offset ?? 0);
}

function typed(dtype: Dtype, values: Float64Array): TypedArray {
  if (dtype === "i32") return Int32Array.from(values);
  if (dtype === "u32") return Uint32Array.from(values);
  return Float32Array.from(values);
}

/** The results of a case on a device, by slot. */
export interface CaseRun {
  readonly outputs: ReadonlyMap<string, Float32Array>;
  /** Gradients of the trainable slots. */
  readonly gradients: ReadonlyMap<string, Float32Array>;
  readonly mutated: ReadonlyMap<string, Float32Array>;
  /** What ran. */
  readonly plan: Plan;
}

export interface CaseOptions {
  /** Slots whose gradients are computed. Default none. */
  readonly trainable?: readonly string[];
  /** Gradient of the first output. */
  readonly dy?: Float32Array;
  /**
   * Adds zeros to every f32 input and multiplies the first output by one, so that what the op reads and writes, gradients too, are
   * activations of the plan, which may be computed in place. Default false.
   */
  readonly throughActivations?: boolean;
}

/** How a case runs: its plan, and the values of its outputs by slot. */
interface PlannedCase {
  readonly planned: Plan;
  readonly outputs: Readonly<Record<string, Value>>;
}

/** The plan by which `runCase` runs a case. */
export function planRun(op: Op, test: OpCase<Attributes>, options: CaseOptions, limits: Limits): PlannedCase {
  const recorder = new Recorder();
  const trainable = new Set(options.trainable ?? []);
  const values = Object.fromEntries(
    Object.entries(test.inputs).map(([slot, { shape, format }]) => {
      const { dtype = "f32", mutated = false } = op.inputs[slot] ?? {};
      const isParameter = mutated || trainable.has(slot) || format !== undefined;
      const value = recorder[isParameter ? "parameter" : "input"](slot, shape, format ?? dtype);
      if (!options.throughActivations || mutated || value.dtype !== "f32") return [slot, value];
      return [slot, recorder.apply(add, { a: value, b: recorder.input(zerosFor(slot), shape) }, {})];
    }),
  );
  const outputs: Record<string, Value> = { ...recorder.record(op, values, test.attributes) };
  const [first = ""] = op.outputs;
  if (options.throughActivations && outputs[first]?.dtype === "f32") {
    outputs[first] = recorder.apply(scale, { x: outputs[first] }, { factor: 1 });
  }
  const loss = outputs[first];
  const planned = plan(recorder, {
    outputs,
    ...(trainable.size > 0 && loss ? { loss, trainable } : {}),
    limits,
    ...(op.outputs.length === 0 ? { effects: true } : {}),
  });
  return { planned, outputs };
}

/** Runs a case through tape, plan and executor, as an op of a model is run. */
export async function runCase(
  device: Device,
  op: Op,
  test: OpCase<Attributes>,
  inputs: Readonly<Record<string, ReferenceTensor>>,
  options: CaseOptions = {},
): Promise<CaseRun> {
  const { planned, outputs } = planRun(op, test, options, device.limits);
  const formatOf = (slot: string): WeightFormat | undefined => test.inputs[slot]?.format;
  const leases = new Map<string, Lease>();
  const executor = new Executor(device);
  const upload = (name: string, data: TypedArray): void => {
    const lease = device.pool.lease(data.byteLength, "state");
    // The memory of test data is not shared.
    device.handle.queue.writeBuffer(lease.buffer, 0, data as Float32Array<ArrayBuffer>);
    leases.set(name, lease);
  };
  try {
    for (const [name] of planned.parameters) {
      const { shape, data } = inputs[name]!;
      const format = formatOf(name);
      const values = Float32Array.from(data);
      upload(name, format ? encodeWeight(values, shape.at(-1) ?? 1, format) : values);
    }
    for (const [name, spec] of planned.gradients) {
      leases.set(gradientName(name), device.pool.lease(specBytes(spec), "state"));
    }
    await executor.hold([planned]);
    const store = { lease: (name: string): Lease => leases.get(name)! };
    const caseData = Object.fromEntries(
      Object.entries(inputs).map(([slot, { data }]) => [slot, typed(op.inputs[slot]?.dtype ?? "f32", data)]),
    );
    const zeros = Object.fromEntries(
      Object.entries(inputs).map(([slot, { data }]) => [zerosFor(slot), new Float32Array(data.length)]),
    );
    const results = await executor.run(planned, store, {
      ...caseData,
      ...zeros,
      ...(options.dy ? { [LOSS_GRADIENT]: options.dy } : {}),
    });
    const gradients = new Map<string, Float32Array>();
    for (const [name, spec] of planned.gradients) {
      const lease = leases.get(gradientName(name))!;
      gradients.set(name, await readFloats(device, lease, elements(spec.shape)));
    }
    const mutated = new Map<string, Float32Array>();
    for (const slot of Object.keys(inputs).filter((name) => op.inputs[name]?.mutated)) {
      const size = elements(inputs[slot]!.shape);
      mutated.set(slot, await readFloats(device, leases.get(slot)!, size));
    }
    const decoded = [...results].map(
      ([slot, data]) => [slot, outputs[slot]?.dtype === "i32" ? whole(data) : data] as const,
    );
    return { outputs: new Map(decoded), gradients, mutated, plan: planned };
  } finally {
    executor.dispose();
    for (const lease of leases.values()) device.pool.return(lease);
  }
}

/** The input with the zeros that are added to a slot's value. */
const zerosFor = (slot: string): string => `zero for ${slot}`;

/** The numbers of an i32 tensor, whose bits were read as those of floats. */
function whole({ buffer, byteOffset, length }: Float32Array): Float32Array {
  return Float32Array.from(new Int32Array(buffer, byteOffset, length));
}

/** The first `count` floats of a buffer. */
async function readFloats(device: Device, lease: Lease, count: number): Promise<Float32Array> {
  return new Float32Array(await readBuffer(device, lease), 0, count);
}
