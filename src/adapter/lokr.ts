import * as v from "valibot";
import { checkSchema } from "../io/json";
import type { PeftConfig } from "../io/peft";
import type { FloatTensor } from "../io/safetensors";
import type { Forward, LinearSite } from "../model/forward";
import type { Projection } from "../model/model";
import { blockLinear } from "../ops/block_linear";
import { linear } from "../ops/linear";
import { reshape } from "../ops/reshape";
import { scaleColumns } from "../ops/scale_columns";
import { scaledAdd } from "../ops/scaled_add";
import { swapAxes } from "../ops/swap_axes";
import type { Value } from "../tape/tape";
import type { Adapter, Tensors } from "./adapter";
import { constant, uniform } from "./initial";
import type { NewTensor } from "./initial";
import { checkPatterns } from "./lora";
import { droppedOutputs, LYCORIS_KEYS, lycorisKeys, sizesOf } from "./lycoris";
import type { LycorisOptions } from "./lycoris";
import { onProjections } from "./on-projections";
import type { ProjectionAdapter } from "./on-projections";
import type { LayerChoice } from "./targets";

export interface LokrOptions extends LycorisOptions {
  /** Whether C is a product of two factors as well, where the rank is below half of its larger side. Default false. */
  readonly decomposeBoth?: boolean;
  /** One of C's sides, where it divides a projection's; else no more than this. Default -1: as close to the square root as can be. */
  readonly decomposeFactor?: number;
  /** Whether outputs that `rankDropout` keeps are scaled up, so that the mean of their factors is 1. Default false. */
  readonly rankDropoutScale?: boolean;
}

const SCHEMA = v.object({
  ...LYCORIS_KEYS,
  peft_type: v.literal("LOKR"),
  decompose_both: v.optional(v.boolean(), false),
  decompose_factor: v.optional(v.pipe(v.number(), v.safeInteger()), -1),
  rank_dropout_scale: v.optional(v.boolean(), false),
});

type LokrConfig = v.InferOutput<typeof SCHEMA>;

/**
 * LoKr (Yeh et al. 2024, LyCORIS, section 3.2): y = x W + bias + scale * x (C (x) D)^T for every target, where (x) is the Kronecker
 * product of C [out1, in1] and D [out2, in2], out = out1 out2 and in = in1 in2. D = D1 D2 of rank r, where r is below half of its larger
 * side, else a matrix of its own. C begins with zeros.
 *
 * The update is never formed: D2 acts on the in1 parts of x one by one, C across them, D1 on each of the out1 parts that C makes.
 *
 * Keeps x for D2 (shared by modules), and per token in1 r numbers for C and out1 r for D1; where D is one matrix, x and in1 out2.
 * @throws FileFormatError for options that make no sense.
 */
export function lokr(options: LokrOptions = {}): Adapter {
  const keys = {
    ...lycorisKeys("LOKR", options),
    decompose_both: options.decomposeBoth,
    decompose_factor: options.decomposeFactor,
    rank_dropout_scale: options.rankDropoutScale,
  };
  return lokrFromConfig(keys, "the LoKr configuration", options.layers);
}

/** LoKr by its adapter_config.json. @throws FileFormatError for a wrong value. */
export function lokrFromConfig(value: PeftConfig, where: string, layers?: LayerChoice): Adapter {
  const config = checkSchema(SCHEMA, value, where);
  const adapter: ProjectionAdapter = onProjections({
    kind: "lokr",
    config,
    layers,
    check: (targets) => checkPatterns(config, targets),
    tensorsOf: (target) => factorsOf(config, target),
    linear(forward, site) {
      const { recorder } = forward;
      const base = recorder.apply(linear, { x: site.x, w: site.weight, bias: site.biasValue }, { layout: site.layout });
      const update = updateOf(forward, config, site);
      const kept = droppedOutputs(forward, site.out, config, config.rank_dropout_scale);
      const a = kept ? recorder.apply(scaleColumns, { a: update, b: kept }, {}) : update;
      return recorder.apply(scaledAdd, { a, b: base }, { factor: sizesOf(config, site.name).scale });
    },
    merged(model, tensors, name, weight) {
      const target = adapter.targets(model).projections.find((projection) => `${projection.name}.weight` === name);
      return target ? merged(config, target, tensors, weight) : weight;
    },
  });
  return adapter;
}

/** Sides of C and D. */
function sidesOf(config: LokrConfig, { in: inSize, out }: Pick<Projection, "in" | "out">) {
  const [in1, in2] = factorsOfSize(inSize, config.decompose_factor);
  const [out1, out2] = factorsOfSize(out, config.decompose_factor);
  return { in1, in2, out1, out2 };
}

/**
 * Two numbers whose product is a size, as LyCORIS chooses them: the factor and the rest, where it divides the size; else those of the least
 * sum, the first of which is neither the larger one nor above the factor.
 */
export function factorsOfSize(size: number, factor: number): readonly [number, number] {
  if (factor > 0 && size % factor === 0) return [factor, size / factor];
  const most = factor === -1 ? size : factor;
  let [first, second] = [1, size];
  for (let next = 2; next <= Math.min(most, Math.sqrt(size)); next++) {
    if (size % next === 0) [first, second] = [next, size / next];
  }
  return [first, second];
}

/** The tensors of a module: C or its factors, then D or its factors. */
function factorsOf(config: LokrConfig, target: Projection): NewTensor[] {
  const { in1, in2, out1, out2 } = sidesOf(config, target);
  const { rank: r } = sizesOf(config, target.name);
  const name = (part: string): string => `${target.name}.lokr_${part}`;
  const c = config.decompose_both && r < Math.max(out1, in1) / 2;
  const d = r < Math.max(out2, in2) / 2;
  return [
    ...(c
      ? [constant(name("w1_a"), [out1, r], 0), uniform(name("w1_b"), [r, in1], 1 / Math.sqrt(in1))]
      : [constant(name("w1"), [out1, in1], 0)]),
    ...(d
      ? [uniform(name("w2_a"), [out2, r], 1 / Math.sqrt(r)), uniform(name("w2_b"), [r, in2], 1 / Math.sqrt(in2))]
      : [uniform(name("w2"), [out2, in2], 1 / Math.sqrt(in2))]),
  ];
}

/** x (C (x) D)^T [..., out]. */
function updateOf(forward: Forward, config: LokrConfig, site: LinearSite): Value {
  const { recorder } = forward;
  const { in1 } = sidesOf(config, site);
  const shapes = new Map(factorsOf(config, site).map(({ name, shape }) => [name.replace(/.*\.lokr_/, ""), shape]));
  const tensor = (part: string): Value => recorder.parameter(`${site.name}.lokr_${part}`, shapes.get(part)!);
  const project = (x: Value, w: Value): Value => recorder.apply(linear, { x, w }, { layout: "out_in" });
  const c = shapes.has("w1")
    ? tensor("w1")
    : recorder.apply(linear, { x: tensor("w1_a"), w: tensor("w1_b") }, { layout: "in_out" });
  const parts = recorder.apply(
    blockLinear,
    { x: site.x, w: tensor(shapes.has("w2") ? "w2" : "w2_b") },
    { layout: "out_in" },
  );
  const width = parts.shape.at(-1)! / in1;
  const tokens = parts.shape.slice(0, -1).reduce((count, size) => count * size, 1);
  const byPart = recorder.apply(reshape, { x: parts }, { shape: [tokens, in1, width] });
  const across = project(recorder.apply(swapAxes, { x: byPart }, {}), c);
  const newParts = recorder.apply(swapAxes, { x: across }, {});
  const y = shapes.has("w2") ? newParts : project(newParts, tensor("w2_a"));
  return recorder.apply(reshape, { x: y }, { shape: [...site.x.shape.slice(0, -1), site.out] });
}

/** A weight with the update in it, on the host. */
function merged(config: LokrConfig, target: Projection, tensors: Tensors, weight: FloatTensor): FloatTensor {
  const { in1, in2, out1, out2 } = sidesOf(config, target);
  const { scale } = sizesOf(config, target.name);
  const c = matrixOf(target.name, "w1", tensors, [out1, in1]);
  const d = matrixOf(target.name, "w2", tensors, [out2, in2]);
  const isTransposed = target.layout === "in_out";
  const width = weight.shape[1] ?? 1;
  const data = weight.data.map((value, i) => {
    const [row, column] = [Math.floor(i / width), i % width];
    const [o, k] = isTransposed ? [column, row] : [row, column];
    const ofC = c[Math.floor(o / out2) * in1 + Math.floor(k / in2)]!;
    return value + scale * ofC * d[(o % out2) * in2 + (k % in2)]!;
  });
  return { shape: weight.shape, data };
}

/** C or D of a module on the host, or the product of its factors. */
function matrixOf(module: string, part: string, tensors: Tensors, [rows, columns]: readonly [number, number]) {
  const whole = tensors.get(`${module}.lokr_${part}`)?.data;
  if (whole) return whole;
  const [a, b] = ["a", "b"].map((factor) => tensors.get(`${module}.lokr_${part}_${factor}`)!.data);
  const rank = a!.length / rows;
  return Float32Array.from({ length: rows * columns }, (_, i) => {
    const [row, column] = [Math.floor(i / columns), i % columns];
    let sum = 0;
    for (let k = 0; k < rank; k++) sum += a![row * rank + k]! * b![k * columns + column]!;
    return sum;
  });
}
