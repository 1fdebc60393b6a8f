import { ConfigError } from "../base/errors";

export interface Rotation {
  /** Positions. */
  readonly length: number;
  readonly headSize: number;
  readonly theta: number;
  /** `default`, `linear` or `llama3`, as Hugging Face names ways of stretching positions. */
  readonly type: string;
  readonly factor: number;
  /** LLaMA-3's: wavelengths above originalLength / lowFactor are stretched, below originalLength / highFactor kept. */
  readonly lowFactor: number;
  readonly highFactor: number;
  readonly originalLength: number;
}

/**
 * Cosines and sines of rotary positions, made in float64: [length, headSize / 2, 2]. Frequencies are theta^(-2i / d) (Su
 * et al. 2021, eq. 15), stretched as LLaMA-3.1 does where asked to.
 * @throws ConfigError for an unknown way of stretching.
 */
export function rotationTable(rotation: Rotation): Float32Array {
  const half = rotation.headSize / 2;
  const frequencies = Array.from({ length: half }, (_, i) =>
    stretched(rotation, rotation.theta ** ((-2 * i) / rotation.headSize)),
  );
  const table = new Float32Array(rotation.length * half * 2);
  for (let position = 0; position < rotation.length; position++) {
    frequencies.forEach((frequency, i) => {
      const entry = 2 * (position * half + i);
      table[entry] = Math.cos(position * frequency);
      table[entry + 1] = Math.sin(position * frequency);
    });
  }
  return table;
}

function stretched({ type, factor, lowFactor, highFactor, originalLength }: Rotation, frequency: number): number {
  if (type === "default") return frequency;
  if (type === "linear") return frequency / factor;
  if (type !== "llama3") {
    throw new ConfigError(`config.json: rope_type ${type} is unknown here.`, "Known ones: default, linear, llama3.");
  }
  const wavelength = (2 * Math.PI) / frequency;
  if (wavelength < originalLength / highFactor) return frequency;
  if (wavelength > originalLength / lowFactor) return frequency / factor;
  const share = (originalLength / wavelength - lowFactor) / (highFactor - lowFactor);
  return (1 - share) * (frequency / factor) + share * frequency;
}
