import * as v from "valibot";
import { DataError } from "../base/errors";
import { directoryAt } from "../io/directory-like";
import type { DirectoryLike } from "../io/directory-like";
import { readJson } from "../io/json";
import type { ImageSpec } from "../model/model";
import { MAX_PIXELS } from "./decode-image";
import type { RawImage } from "./decode-image";
import { normalisePixels } from "./images";
import type { ImageSample, Normalisation } from "./images";
import { RESAMPLES, resizeImage } from "./resize";

const PIXELS = v.pipe(v.number(), v.safeInteger(), v.minValue(1), v.maxValue(16384));
const SIZE = v.union([PIXELS, v.object({ height: PIXELS, width: PIXELS }), v.object({ shortest_edge: PIXELS })]);
/** Schema of one value for all channels, or one for each channel of a grey or a colour image. */
const perChannelOf = <S extends v.GenericSchema<number>>(value: S) =>
  v.union(
    [value, v.pipe(v.array(value), v.length(1)), v.pipe(v.array(value), v.length(3))],
    "expected a number, or a list of 1 or 3; deviations must be above 0",
  );

const SCHEMA = v.object({
  do_resize: v.optional(v.nullable(v.boolean()), true),
  size: v.optional(v.nullable(SIZE), null),
  resample: v.optional(v.nullable(v.picklist([0, 1, 2, 3])), 2),
  do_center_crop: v.optional(v.nullable(v.boolean()), false),
  crop_size: v.optional(v.nullable(SIZE), null),
  do_rescale: v.optional(v.nullable(v.boolean()), true),
  rescale_factor: v.optional(v.nullable(v.number()), 1 / 255),
  do_normalize: v.optional(v.nullable(v.boolean()), true),
  image_mean: v.optional(v.nullable(perChannelOf(v.number())), 0.5),
  image_std: v.optional(v.nullable(perChannelOf(v.pipe(v.number(), v.gtValue(0)))), 0.5),
});

interface Sides {
  readonly width: number;
  readonly height: number;
}

/** Maximum ratio of an image's shorter side after resizing to the size that is cut out. Published files have at most 2. */
const MAX_RESIZE_RATIO = 8;

/** How to prepare an image for a model, from its preprocessor_config.json. */
export type Preprocessor = v.InferOutput<typeof SCHEMA>;

/**
 * Reads the preprocessor_config.json of a model's directory. Without one, the values are those of ViT: bilinear resizing,
 * mean and deviation 0.5.
 * @throws FileFormatError for a wrong value.
 */
export async function readPreprocessor(place: DirectoryLike): Promise<Preprocessor> {
  const directory = await directoryAt(place);
  const file = "preprocessor_config.json";
  if ((await directory.size(file)) === undefined) return DEFAULT_PREPROCESSOR;
  return readJson(directory, file, SCHEMA);
}

/**
 * Resizes an image for a model: bytes [channels, rows, columns].
 * @throws DataError if the configuration gives another size than the model takes, or an unreasonable one.
 */
export function fitImage(
  image: RawImage,
  config: Preprocessor,
  spec: Pick<ImageSpec, "size" | "channels">,
): Uint8Array {
  const target = config.do_resize === false ? image : sides(config.size ?? spec.size, image);
  const final = config.do_center_crop ? sides(config.crop_size ?? spec.size, target) : target;
  if (final.width !== spec.size || final.height !== spec.size) {
    throw new DataError(
      `preprocessor_config.json makes an image ${final.width} x ${final.height}; the model takes ${spec.size} x ${spec.size}`,
      "use the file that belongs to the model",
    );
  }
  checkResize(image, target, spec.size);
  const coloured = withChannels(image, spec.channels);
  const resized = resizeImage(coloured, target.width, target.height, RESAMPLES[config.resample ?? 2]);
  const { width, height, channels, data } = config.do_center_crop ? cropCentre(resized, final) : resized;
  const planes = new Uint8Array(data.length);
  const perPlane = width * height;
  for (let i = 0; i < data.length; i++) planes[(i % channels) * perPlane + Math.floor(i / channels)] = data[i]!;
  return planes;
}

/**
 * An image for a batch. It is stored as bytes, which take a quarter of the memory of the numbers; `pixels` converts them on
 * every access. Throws as `fitImage` does.
 */
export function preparedImage(
  image: RawImage,
  label: number,
  config: Preprocessor,
  spec: Pick<ImageSpec, "size" | "channels">,
): ImageSample {
  const bytes = fitImage(image, config, spec);
  return {
    label,
    get pixels() {
      return normaliseImage(bytes, config, spec.channels);
    },
  };
}

/** The preprocessor of ViT: bilinear resizing, mean and deviation 0.5. */
export const DEFAULT_PREPROCESSOR: Preprocessor = v.parse(SCHEMA, {});

/** Normalises an image in bytes [channels, rows, columns] as the configuration says. */
export const normaliseImage = (bytes: Uint8Array, config: Preprocessor, channels: number): Float32Array =>
  normalisePixels(bytes, channels, normalisationOf(config, channels));

/** How the configuration makes numbers of an image's bytes. */
export function normalisationOf(config: Preprocessor, channels: number): Normalisation {
  const perChannel = (value: number | readonly number[] | null, fallback: number): number[] =>
    Array.from(
      { length: channels },
      (_, i) => (typeof value === "object" ? (value?.[i] ?? value?.[0]) : value) ?? fallback,
    );
  const isNotNormalised = config.do_normalize === false;
  return {
    rescale: config.do_rescale === false ? 1 : (config.rescale_factor ?? 1 / 255),
    mean: isNotNormalised ? perChannel(0, 0) : perChannel(config.image_mean, 0.5),
    deviation: isNotNormalised ? perChannel(1, 1) : perChannel(config.image_std, 0.5),
  };
}

/** @throws DataError for a target size that is unreasonable, or too large in between, before memory is allocated for it. */
function checkResize(image: Sides, { width, height }: Sides, size: number): void {
  if (width === image.width && height === image.height) return;
  const isSmall = Math.min(width, height) <= MAX_RESIZE_RATIO * size;
  if (width > 0 && height > 0 && isSmall && width * Math.max(height, image.height) <= MAX_PIXELS) return;
  throw new DataError(
    `an image of ${image.width} x ${image.height} would be resized to ${width} x ${height} for a model of ${size} x ${size}`,
    "use the preprocessor_config.json that belongs to the model, or leave the image out",
  );
}

/** Width and height of a `size`: a square, both sides, or the shorter side with the other in proportion. */
function sides(size: v.InferOutput<typeof SIZE>, image: Sides): Sides {
  if (typeof size === "number") return { width: size, height: size };
  if ("height" in size) return size;
  const { width, height } = image;
  // The multiplication comes first, since a rounded factor would make the shorter side of some sizes a pixel too short.
  const scaled = (side: number): number => Math.floor((side * size.shortest_edge) / Math.min(width, height));
  return { width: scaled(width), height: scaled(height) };
}

/** Cuts the centre out of an image. */
function cropCentre(image: RawImage, { width, height }: Sides): RawImage {
  const { channels } = image;
  const [left, top] = [Math.floor((image.width - width) / 2), Math.floor((image.height - height) / 2)];
  if (left < 0 || top < 0) {
    throw new DataError(
      `an image of ${image.width} x ${image.height} cannot be cropped to ${width} x ${height}`,
      "resize it to at least that size first",
    );
  }
  const data = new Uint8Array(width * height * channels);
  for (let row = 0; row < height; row++) {
    const from = ((top + row) * image.width + left) * channels;
    data.set(image.data.subarray(from, from + width * channels), row * width * channels);
  }
  return { width, height, channels, data };
}

/** Converts grey to three equal colours, or colours to their luminance (ITU-R 601-2, rounded as in Pillow). */
function withChannels(image: RawImage, channels: number): RawImage {
  if (image.channels === channels) return image;
  const { width, height, data } = image;
  if (channels === 3) {
    return {
      width,
      height,
      channels: 3,
      data: Uint8Array.from({ length: data.length * 3 }, (_, i) => data[Math.floor(i / 3)]!),
    };
  }
  if (channels !== 1) throw new DataError(`the model takes ${channels} channels`, "prepare its images yourself");
  const luminance = (i: number): number => {
    const [red, green, blue] = [data[3 * i]!, data[3 * i + 1]!, data[3 * i + 2]!];
    return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
  };
  return { width, height, channels: 1, data: Uint8Array.from({ length: width * height }, (_, i) => luminance(i)) };
}
