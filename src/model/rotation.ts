import * as v from "valibot";
import { ConfigError } from "../base/errors";
import { only, parseConfig } from "./config";

const POSITIVE = v.pipe(v.number(), v.gtValue(0));
const SCALING = v.looseObject({
  rope_type: v.optional(v.string()),
  /** Name of `rope_type` in older files. */
  type: v.optional(v.string()),
  rope_theta: v.optional(POSITIVE),
  partial_rotary_factor: v.optional(v.pipe(POSITIVE, v.maxValue(1))),
  original_max_position_embeddings: v.nullish(POSITIVE),
});

/** Keys of config.json for rotary embeddings. transformers 5 puts all of them into `rope_parameters`. */
export const ROTATION_KEYS = {
  rope_theta: v.optional(POSITIVE),
  rope_scaling: v.nullish(SCALING),
  rope_parameters: v.nullish(SCALING),
  partial_rotary_factor: v.optional(v.pipe(POSITIVE, v.maxValue(1))),
  original_max_position_embeddings: v.nullish(POSITIVE),
} as const;

export const ROTATION_SCHEMA = v.object(ROTATION_KEYS);

/** Of families that turn whole heads. */
const WHOLE = v.object({ partial_rotary_factor: only(1) });
const LINEAR = v.object({ factor: POSITIVE });
const LLAMA3 = v.object({ factor: POSITIVE, low_freq_factor: POSITIVE, high_freq_factor: POSITIVE });
const YARN = v.object({
  factor: v.nullish(POSITIVE),
  attention_factor: v.nullish(POSITIVE),
  beta_fast: v.nullish(POSITIVE),
  beta_slow: v.nullish(POSITIVE),
  mscale: v.nullish(POSITIVE),
  mscale_all_dim: v.nullish(POSITIVE),
  truncate: v.optional(v.boolean(), true),
});
const LONGROPE = v.object({
  factor: v.nullish(POSITIVE),
  attention_factor: v.nullish(POSITIVE),
  long_factor: v.array(POSITIVE),
  short_factor: v.array(POSITIVE),
});

/** How some layers rotate queries and keys by their positions. */
export interface Rotation {
  /** Angle in radians by which each pair of a head's elements turns from one position to the next. */
  readonly frequencies: Float64Array;
  /** Factor of the cosines and sines. */
  readonly factor: number;
  /** The frequencies of batches of more tokens than `above`. Default: the same for all. */
  readonly long?: { readonly above: number; readonly frequencies: Float64Array };
}

/** What a family fixes, or its configuration says elsewhere. */
export interface RotationSizes {
  readonly headSize: number;
  readonly maxLength: number;
  /** Base of the angles where the configuration has none. Default 10000. */
  readonly theta?: number | undefined;
  /** Share of a head's elements that turn, where the configuration has none. Default: the family turns all, whatever it has. */
  readonly share?: number | undefined;
}

/**
 * The rotation by theta^(-2i / d) of the first d elements of each head (Su et al. 2021, eq. 15), scaled as the configuration
 * says. Formulas and precedence of keys are those of transformers' modeling_rope_utils.
 * @throws ConfigError for an unsupported `rope_type`, or one whose numbers are missing, and for a share that the family does not have.
 */
export function rotationOf(config: v.InferOutput<typeof ROTATION_SCHEMA>, sizes: RotationSizes): Rotation {
  const { headSize, maxLength } = sizes;
  const isSet = Object.keys(config.rope_scaling ?? {}).length > 0;
  const source = isSet ? "rope_scaling" : "rope_parameters";
  const scaling = config[source] ?? {};
  const theta = scaling.rope_theta ?? config.rope_theta ?? sizes.theta ?? 10000;
  const given = scaling.partial_rotary_factor ?? config.partial_rotary_factor;
  if (sizes.share === undefined) parseConfig(WHOLE, { partial_rotary_factor: given });
  const share = given ?? sizes.share ?? 1;
  const size = Math.trunc(headSize * share);
  if (size < 2 || size % 2 !== 0) {
    throw new ConfigError(
      `config.json: partial_rotary_factor ${share} makes ${size} of ${headSize} elements of a head turn.`,
      "Their number must be even.",
    );
  }
  const originalLength =
    config.original_max_position_embeddings ?? scaling.original_max_position_embeddings ?? maxLength;
  const frequencies = Float64Array.from({ length: size / 2 }, (_, i) => theta ** ((-2 * i) / size));
  const type = scaling.rope_type ?? scaling.type ?? "default";
  const build = Object.hasOwn(SCALINGS, type) ? SCALINGS[type] : undefined;
  if (build) return build(scaling, { source, frequencies, theta, originalLength, maxLength });
  throw new ConfigError(
    `config.json: rope_type ${type} is not supported.`,
    `Supported: ${Object.keys(SCALINGS).join(", ")}.`,
  );
}

interface Unscaled {
  /** The key of config.json that has the scaling. */
  readonly source: string;
  readonly frequencies: Float64Array;
  readonly theta: number;
  /** Tokens of the texts on which the model was trained before its positions were scaled. */
  readonly originalLength: number;
  readonly maxLength: number;
}

/** The scalings by `rope_type`. */
const SCALINGS: Readonly<Record<string, (scaling: v.InferOutput<typeof SCALING>, unscaled: Unscaled) => Rotation>> = {
  default: (_, { frequencies }) => ({ frequencies, factor: 1 }),
  linear: (scaling, { source, frequencies }) => {
    const { factor } = parseConfig(LINEAR, scaling, source);
    return { frequencies: frequencies.map((frequency) => frequency / factor), factor: 1 };
  },
  llama3: (scaling, { source, frequencies, originalLength }) => {
    const c = parseConfig(LLAMA3, scaling, source);
    return { frequencies: frequencies.map(scaledAsLlama3(c, originalLength)), factor: 1 };
  },
  yarn: (scaling, unscaled) => scaledAsYarn(parseConfig(YARN, scaling, unscaled.source), unscaled),
  longrope: (scaling, unscaled) => scaledAsLongRope(parseConfig(LONGROPE, scaling, unscaled.source), unscaled),
};

/** Scaling of LLaMA 3.1: slow turns become slower, fast ones stay, those in between are interpolated. */
function scaledAsLlama3(c: v.InferOutput<typeof LLAMA3>, originalLength: number): (frequency: number) => number {
  return (frequency) => {
    const turns = (originalLength * frequency) / (2 * Math.PI);
    if (turns < c.low_freq_factor) return frequency / c.factor;
    if (turns > c.high_freq_factor) return frequency;
    const weight = (turns - c.low_freq_factor) / (c.high_freq_factor - c.low_freq_factor);
    return (1 - weight) * (frequency / c.factor) + weight * frequency;
  };
}

/** YaRN (Peng et al. 2023): the first pairs turn as fast as before, the last ones slower by the factor. */
function scaledAsYarn(c: v.InferOutput<typeof YARN>, unscaled: Unscaled): Rotation {
  const { frequencies, theta, originalLength, maxLength } = unscaled;
  const factor = c.factor ?? maxLength / originalLength;
  const size = 2 * frequencies.length;
  const pairThatTurns = (turns: number): number =>
    (size * Math.log(originalLength / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
  const [first, last] = [pairThatTurns(c.beta_fast ?? 32), pairThatTurns(c.beta_slow ?? 1)];
  const low = Math.max(c.truncate ? Math.floor(first) : first, 0);
  const high = Math.min(c.truncate ? Math.ceil(last) : last, size - 1);
  const scaled = frequencies.map((frequency, i) => {
    const share = Math.min(1, Math.max(0, (i - low) / (high === low ? 0.001 : high - low)));
    return share * (frequency / factor) + (1 - share) * frequency;
  });
  const mscale = (weight: number): number => (factor <= 1 ? 1 : 0.1 * weight * Math.log(factor) + 1);
  const inferred = c.mscale && c.mscale_all_dim ? mscale(c.mscale) / mscale(c.mscale_all_dim) : mscale(1);
  return { frequencies: scaled, factor: c.attention_factor ?? inferred };
}

/** LongRoPE (Ding et al. 2024): a divisor for each pair, and others for texts longer than those of the first training. */
function scaledAsLongRope(c: v.InferOutput<typeof LONGROPE>, unscaled: Unscaled): Rotation {
  const { frequencies, originalLength, maxLength } = unscaled;
  const divided = (key: "short_factor" | "long_factor"): Float64Array => {
    const divisors = c[key];
    if (divisors.length !== frequencies.length) {
      throw new ConfigError(
        `config.json: ${key} has ${divisors.length} numbers, and a head ${frequencies.length} pairs that turn.`,
        "Give a number for each pair.",
      );
    }
    return frequencies.map((frequency, i) => frequency / divisors[i]!);
  };
  const factor = c.factor ?? maxLength / originalLength;
  const inferred = factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(originalLength));
  return {
    frequencies: divided("short_factor"),
    factor: c.attention_factor ?? inferred,
    long: { above: originalLength, frequencies: divided("long_factor") },
  };
}

/**
 * Cosines and sines of positions, computed in float64: [positions, 2, pairs].
 * @param length tokens of the batch's rows, padding included.
 */
export function rotationTable(
  { frequencies, factor, long }: Rotation,
  positions: Int32Array,
  length: number,
): Float32Array {
  const chosen = long && length > long.above ? long.frequencies : frequencies;
  const half = chosen.length;
  return Float32Array.from({ length: positions.length * half * 2 }, (_, entry) => {
    const angle = positions[Math.floor(entry / (2 * half))]! * chosen[entry % half]!;
    return factor * (entry % (2 * half) < half ? Math.cos(angle) : Math.sin(angle));
  });
}
