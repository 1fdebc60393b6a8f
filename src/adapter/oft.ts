import * as v from "valibot";
import { ConfigError } from "../base/errors";
import { checkSchema } from "../io/json";
import type { PeftConfig } from "../io/peft";
import { stripPrefix } from "../io/peft-keys";
import { unsupported } from "../io/peft-lora";
import { entryOf } from "../io/safetensors";
import type { FloatTensor } from "../io/safetensors";
import type { Projection } from "../model/model";
import { add } from "../ops/add";
import { blockLinear } from "../ops/block_linear";
import { cayley, powerOf } from "../ops/cayley";
import { linear } from "../ops/linear";
import type { Adapter, AdapterRun, AdapterState } from "./adapter";
import { constant } from "./initial";
import { fanInFanOut, onProjections } from "./on-projections";
import type { ProjectionAdapter } from "./on-projections";
import { TARGET_KEYS, targetKeys } from "./targets";
import type { LayerChoice, TargetOptions } from "./targets";

export interface OftOptions extends TargetOptions {
  /** Columns of x that a block rotates; where it does not divide a projection's width, the nearest number that does. Default 32. */
  readonly blockSize?: number;
  /** Number of blocks instead of their size, adjusted likewise. */
  readonly blocks?: number;
  /** Whether all blocks of a module are one rotation. Default false. */
  readonly blockShare?: boolean;
  /**
   * Terms of the series that takes the place of the inverse in Cayley's transform; 0 for the inverse itself. R is nearly orthogonal while
   * elements of Q are small. Default 5.
   */
  readonly neumannTerms?: number;
  /** Bound of the norm of Q, which each step keeps (COFT). Default none. */
  readonly eps?: number;
}

const COUNT = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const SCHEMA = v.object({
  ...TARGET_KEYS,
  peft_type: v.literal("OFT"),
  r: v.optional(COUNT, 0),
  oft_block_size: COUNT,
  bias: v.optional(v.picklist(["none", "all", "oft_only"]), "none"),
  coft: v.optional(v.boolean(), false),
  eps: v.optional(v.pipe(v.number(), v.finite(), v.minValue(0)), 6e-5),
  block_share: v.optional(v.boolean(), false),
  use_cayley_neumann: v.optional(v.boolean(), true),
  num_cayley_neumann_terms: v.optional(v.pipe(v.number(), v.safeInteger()), 5),
});

type OftConfig = v.InferOutput<typeof SCHEMA>;

/**
 * OFT (Qiu et al. 2023, section 3; 2025, OFTv2, section 4): y = (x R) W + bias for every target, where R rotates blocks of columns of x. Each
 * block of R follows by Cayley's transform from a skew-symmetric Q, of which the elements above the diagonal learn, from 0.
 *
 * The input is rotated, not the weight: a step computes x + x (R - I) by blocks, then the product with W as it is stored.
 *
 * Keeps x (shared by modules) and R - I, in * block size numbers; nothing of the weight's size.
 * @throws FileFormatError or ConfigError for options that make no sense.
 */
export function oft(options: OftOptions = {}): Adapter {
  const { blocks = 0, blockSize = blocks > 0 ? 0 : 32, blockShare = false, neumannTerms = 5, eps, layers } = options;
  const keys = {
    peft_type: "OFT",
    r: blocks,
    oft_block_size: blockSize,
    block_share: blockShare,
    coft: eps !== undefined,
    ...(eps !== undefined && { eps }),
    use_cayley_neumann: neumannTerms !== 0,
    ...(neumannTerms !== 0 && { num_cayley_neumann_terms: neumannTerms }),
    ...targetKeys(options),
  };
  return oftFromConfig(keys, "the OFT configuration", layers);
}

/** OFT by its adapter_config.json. @throws FileFormatError or ConfigError for a wrong value. */
export function oftFromConfig(value: PeftConfig, where: string, layers?: LayerChoice): Adapter {
  const config = checkSchema(SCHEMA, value, where);
  const { r, oft_block_size: blockSize, use_cayley_neumann: isSeries, num_cayley_neumann_terms: count } = config;
  if (config.bias !== "none") throw unsupported(`bias: ${config.bias} for OFT`, where);
  if ((r === 0) === (blockSize === 0)) {
    throw new ConfigError(
      `${where} has r (blocks) ${r} and oft_block_size (blockSize) ${blockSize}.`,
      "Give one of them: the other follows from a projection's width.",
    );
  }
  if (isSeries && count < 2) {
    throw new ConfigError(
      `${where} has num_cayley_neumann_terms ${count}, with which PEFT rotates nothing.`,
      "Give 2 terms at least, or use_cayley_neumann: false for the inverse itself.",
    );
  }
  const terms = isSeries ? count : 0;
  const adapter: ProjectionAdapter = onProjections({
    kind: "oft",
    config,
    layers,
    check(targets) {
      const still = targets.find((target) => sizeOf(config, target) < 2);
      if (!still) return;
      throw new ConfigError(
        `OFT's blocks of ${still.name}, which has ${still.in} inputs, would have one column each: nothing to rotate.`,
        "Give another block size, or leave the module out.",
      );
    },
    tensorsOf: (target) => [constant(nameOf(target), vectorsOf(config, target), 0)],
    linear(forward, site) {
      const { recorder } = forward;
      const rotation = forward.once(`rotation of ${site.name}`, () => {
        const q = recorder.parameter(nameOf(site), vectorsOf(config, site));
        return recorder.apply(cayley, { v: q }, { size: sizeOf(config, site), terms });
      });
      const change = recorder.apply(blockLinear, { x: site.x, w: rotation }, { layout: "in_out" });
      const x = recorder.apply(add, { a: change, b: site.x }, {});
      return recorder.apply(linear, { x, w: site.weight, bias: site.biasValue }, { layout: site.layout });
    },
    ...(config.coft && { start: (run: AdapterRun) => keepNear(run, adapter, config) }),
    // PEFT shortens vectors when it computes with them.
    ...(config.coft && {
      fromFile: (stored: ReadonlyMap<string, FloatTensor>) =>
        new Map(
          [...stored].map(([key, { shape, data }]) => {
            const name = stripPrefix(key);
            return [name, { shape, data: name.endsWith(NAME) ? shortened(data, shape[0] ?? 1, config.eps) : data }];
          }),
        ),
    }),
    merged(model, tensors, name, weight) {
      const target = adapter.targets(model).projections.find((projection) => `${projection.name}.weight` === name);
      return target ? merged(target, entryOf(tensors, nameOf(target), "the adapter"), config, terms, weight) : weight;
    },
    peft: (targets) => ({ fan_in_fan_out: fanInFanOut(targets) }),
  });
  return adapter;
}

const NAME = ".oft_R.weight";
const nameOf = ({ name }: Pick<Projection, "name">): string => `${name}${NAME}`;

/** Rows of a block. A size, or a number of blocks, that does not divide the width becomes the nearest that does, as in PEFT. */
function sizeOf({ r, oft_block_size: size }: OftConfig, { in: width }: Pick<Projection, "in">): number {
  return r > 0 ? width / nearestDivisor(width, r) : nearestDivisor(width, size);
}

/** The divisor of a width that is nearest to a number, of two the smaller one; the width for a number above it. */
export function nearestDivisor(width: number, number: number): number {
  if (number >= width) return width;
  let [lower, higher] = [number, number];
  while (width % lower !== 0) lower--;
  while (width % higher !== 0) higher++;
  return number - lower <= higher - number ? lower : higher;
}

/** Shape of a module's tensor: a row for each block, with the elements of Q above the diagonal. */
function vectorsOf(config: OftConfig, target: Pick<Projection, "in">): readonly number[] {
  const size = sizeOf(config, target);
  return [config.block_share ? 1 : target.in / size, (size * (size - 1)) / 2];
}

/** Rows of which each Q has at most the norm eps / sqrt(rows). An element is in Q twice. */
function shortened(data: Float32Array, rows: number, eps: number): Float32Array {
  const most = eps / Math.sqrt(rows);
  const width = data.length / rows;
  const factors = Array.from({ length: rows }, (_, row) => {
    const squares = data.subarray(row * width, (row + 1) * width).reduce((sum, value) => sum + value ** 2, 0);
    const norm = Math.sqrt(2 * squares);
    return norm <= most ? 1 : most / norm;
  });
  return data.map((value, i) => value * factors[Math.floor(i / width)]!);
}

/** Shortens what learns after each step. */
function keepNear(run: AdapterRun, adapter: ProjectionAdapter, config: OftConfig): AdapterState {
  const { projections } = adapter.targets(run.model);
  return {
    async afterStep() {
      for (const target of projections.filter((each) => run.isLive(nameOf(each)))) {
        const [rows = 1] = vectorsOf(config, target);
        run.write(nameOf(target), shortened(await run.read(nameOf(target)), rows, config.eps));
      }
    },
  };
}

/** A weight that reads x as R does, on the host: W'[i, o] = W[i, o] + sum_c (R - I)[i, c] W[c, o]. */
function merged(
  target: Projection,
  { data }: FloatTensor,
  config: OftConfig,
  terms: number,
  weight: FloatTensor,
): FloatTensor {
  const size = sizeOf(config, target);
  const [blocks = 1, width = 0] = vectorsOf(config, target);
  const rotations = Array.from({ length: blocks }, (_, block) =>
    rotationOf(data.subarray(block * width, (block + 1) * width), size, terms),
  );
  const isTransposed = target.layout === "in_out";
  const at = (input: number, output: number): number =>
    isTransposed ? input * target.out + output : output * target.in + input;
  const rotated = new Float32Array(weight.data.length);
  for (let input = 0; input < target.in; input++) {
    const first = input - (input % size);
    const rotation = rotations[blocks === 1 ? 0 : first / size]!;
    for (let output = 0; output < target.out; output++) {
      let sum = weight.data[at(input, output)]!;
      for (let c = 0; c < size; c++) sum += rotation[(input % size) * size + c]! * weight.data[at(first + c, output)]!;
      rotated[at(input, output)] = sum;
    }
  }
  return { shape: weight.shape, data: rotated };
}

/** R - I of a block [size, size], in float64. */
function rotationOf(vector: Float32Array, size: number, terms: number): Float64Array {
  const q = new Float64Array(size * size);
  for (let i = 0, k = 0; i < size; i++) {
    for (let j = i + 1; j < size; j++, k++) {
      q[i * size + j] = vector[k]!;
      q[j * size + i] = -vector[k]!;
    }
  }
  if (terms > 0) return seriesOf(q, size, powerOf(terms));
  const inverse = q.map((value, e) => value + (e % (size + 1) === 0 ? 1 : 0));
  for (let p = 0; p < size; p++) {
    const pivot = 1 / inverse[p * size + p]!;
    inverse[p * size + p] = 1;
    for (let j = 0; j < size; j++) inverse[p * size + j]! *= pivot;
    for (let i = 0; i < size; i++) {
      if (i === p) continue;
      const factor = inverse[i * size + p]!;
      inverse[i * size + p] = 0;
      for (let j = 0; j < size; j++) inverse[i * size + j]! -= factor * inverse[p * size + j]!;
    }
  }
  return inverse.map((value, e) => 2 * (value - (e % (size + 1) === 0 ? 1 : 0)));
}

/** 2 Q + 2 Q^2 + ... + Q^power, or 2 Q. */
function seriesOf(q: Float64Array, size: number, power: number): Float64Array {
  if (power === 1) return q.map((value) => 2 * value);
  let sum = q;
  for (let k = power - 1; k > 0; k--) {
    const next = q.map((value) => 2 * value);
    for (let i = 0; i < size; i++) {
      for (let c = 0; c < size; c++) {
        const factor = q[i * size + c]!;
        for (let j = 0; j < size; j++) next[i * size + j]! += factor * sum[c * size + j]!;
      }
    }
    sum = next;
  }
  return sum;
}
