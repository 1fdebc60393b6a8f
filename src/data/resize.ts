import type { RawImage } from "./decode-image";

/** Filters of Pillow, by their numbers in preprocessor_config.json. */
export const RESAMPLES = { 0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic" } as const;
export type Resample = (typeof RESAMPLES)[keyof typeof RESAMPLES];

const sinc = (x: number): number => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));

/** Each filter's radius in pixels, and its weight at a distance. */
const FILTERS: Readonly<
  Record<Exclude<Resample, "nearest">, { readonly support: number; readonly weight: (x: number) => number }>
> = {
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: { support: 2, weight: (x) => cubic(Math.abs(x)) },
  lanczos: { support: 3, weight: (x) => (Math.abs(x) < 3 ? sinc(x) * sinc(x / 3) : 0) },
};

/** Cubic convolution (Keys 1981, equation 15) with a = -0.5. */
function cubic(x: number): number {
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
}

/**
 * Resizes an image with the same bits as Pillow. For a smaller size, the filter is stretched by the same factor. Columns come
 * first, then rows; values are rounded to bytes in between.
 */
export function resizeImage(image: RawImage, width: number, height: number, resample: Resample): RawImage {
  if (width === image.width && height === image.height) return image;
  if (resample === "nearest") return nearest(image, width, height);
  const columnWeights = weights(image.width, width, resample);
  const rowWeights = weights(image.height, height, resample);
  const { channels } = image;
  const narrow = new Uint8ClampedArray(image.height * width * channels);
  for (let row = 0, i = 0; row < image.height; row++) {
    for (const { first, values } of columnWeights) {
      const start = (row * image.width + first) * channels;
      for (let channel = 0; channel < channels; channel++) {
        narrow[i++] = weightedSum(image.data, start + channel, channels, values);
      }
    }
  }
  const stride = width * channels;
  const data = new Uint8ClampedArray(height * stride);
  for (let row = 0; row < height; row++) {
    const { first, values } = rowWeights[row]!;
    for (let i = 0; i < stride; i++) {
      data[row * stride + i] = weightedSum(narrow, first * stride + i, stride, values);
    }
  }
  return { width, height, channels, data: new Uint8Array(data.buffer) };
}

/** Weights of the inputs from `first` on that make an output. */
interface Weights {
  readonly first: number;
  readonly values: Int32Array;
}

/** Fractional bits of the weights, as in Pillow: sums over bytes then fit into 32 bits. */
const FRACTION_BITS = 22;

function weightedSum(bytes: ArrayLike<number>, start: number, stride: number, values: Int32Array): number {
  let sum = 1 << (FRACTION_BITS - 1);
  for (let i = 0; i < values.length; i++) sum += bytes[start + i * stride]! * values[i]!;
  return sum >> FRACTION_BITS;
}

/** The weights of each output, which add up to 1 in fixed point. */
function weights(from: number, to: number, resample: Exclude<Resample, "nearest">): Weights[] {
  const { support, weight } = FILTERS[resample];
  const scale = Math.max(1, from / to);
  return Array.from({ length: to }, (_, i) => {
    const center = ((i + 0.5) * from) / to;
    const first = Math.max(0, Math.floor(center - support * scale + 0.5));
    const end = Math.min(from, Math.floor(center + support * scale + 0.5));
    const raw = Array.from({ length: end - first }, (__, j) => weight((first + j - center + 0.5) / scale));
    const total = raw.reduce((sum, value) => sum + value, 0);
    return { first, values: Int32Array.from(raw, (value) => fixedPoint(value / total)) };
  });
}

const fixedPoint = (value: number): number => Math.trunc(value * 2 ** FRACTION_BITS + (value < 0 ? -0.5 : 0.5));

function nearest({ width: from, height: rows, channels, data }: RawImage, width: number, height: number): RawImage {
  const result = new Uint8Array(width * height * channels);
  for (let row = 0; row < height; row++) {
    const source = Math.floor(((row + 0.5) * rows) / height) * from;
    for (let column = 0; column < width; column++) {
      const start = (source + Math.floor(((column + 0.5) * from) / width)) * channels;
      result.set(data.subarray(start, start + channels), (row * width + column) * channels);
    }
  }
  return { width, height, channels, data: result };
}
