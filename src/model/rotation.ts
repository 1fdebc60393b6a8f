import * as v from "valibot";
import { ConfigError } from "../base/errors";
import { parseConfig } from "./config";

const POSITIVE = v.pipe(v.number(), v.gtValue(0));
const SCALING = v.looseObject({
  rope_type: v.optional(v.string()),
  /** Name of `rope_type` in older files. */
  type: v.optional(v.string()),
  rope_theta: v.optional(POSITIVE),
});

/** Keys of config.json for rotary embeddings. transformers 5 puts all of them into `rope_parameters`. */
export const ROTATION_SCHEMA = v.object({
  rope_theta: v.optional(POSITIVE, 10000),
  rope_scaling: v.nullish(SCALING),
  rope_parameters: v.nullish(SCALING),
});

const LINEAR = v.object({ factor: POSITIVE });
const LLAMA3 = v.object({
  factor: POSITIVE,
  low_freq_factor: POSITIVE,
  high_freq_factor: POSITIVE,
  original_max_position_embeddings: POSITIVE,
});

/**
 * Angle in radians by which each pair of a head's elements turns from one position to the next [headSize / 2]:
 * theta^(-2i / headSize) (Su et al. 2021, eq. 15), scaled as the configuration says.
 * @throws ConfigError for an unsupported `rope_type`, or one whose numbers are missing.
 */
export function rotationFrequencies(config: v.InferOutput<typeof ROTATION_SCHEMA>, headSize: number): Float64Array {
  const scaling = config.rope_parameters ?? config.rope_scaling ?? {};
  const theta = scaling.rope_theta ?? config.rope_theta;
  const plain = Float64Array.from({ length: headSize / 2 }, (_, i) => theta ** ((-2 * i) / headSize));
  const type = scaling.rope_type ?? scaling.type ?? "default";
  if (type === "default") return plain;
  if (type === "linear") {
    const { factor } = parseConfig(LINEAR, scaling);
    return plain.map((frequency) => frequency / factor);
  }
  if (type === "llama3") return plain.map(scaledAsLlama3(parseConfig(LLAMA3, scaling)));
  throw new ConfigError(`config.json: rope_type ${type} is not supported.`, "Supported: default, linear, llama3.");
}

/** Scaling of LLaMA 3.1: slow turns become slower, fast ones stay, those in between are interpolated. */
function scaledAsLlama3(c: v.InferOutput<typeof LLAMA3>): (frequency: number) => number {
  return (frequency) => {
    const turns = (c.original_max_position_embeddings * frequency) / (2 * Math.PI);
    if (turns < c.low_freq_factor) return frequency / c.factor;
    if (turns > c.high_freq_factor) return frequency;
    const weight = (turns - c.low_freq_factor) / (c.high_freq_factor - c.low_freq_factor);
    return (1 - weight) * (frequency / c.factor) + weight * frequency;
  };
}

/** Cosines and sines of positions times frequencies, computed in float64: [positions, 2, frequencies]. */
export function rotationTable(frequencies: Float64Array, positions: Int32Array): Float32Array {
  const half = frequencies.length;
  return Float32Array.from({ length: positions.length * half * 2 }, (_, entry) => {
    const angle = positions[Math.floor(entry / (2 * half))]! * frequencies[entry % half]!;
    return entry % (2 * half) < half ? Math.cos(angle) : Math.sin(angle);
  });
}
