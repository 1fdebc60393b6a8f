import * as v from "valibot";
import { DataError } from "../base/errors";
import type { Directory } from "../io/directory";
import { readJson } from "../io/json";
import type { ImageSpec } from "../model/model";
import { MOST_PIXELS } from "./decode-image";
import type { RawImage } from "./decode-image";
import { normalisePixels } from "./images";
import type { ImageSample } from "./images";
import { RESAMPLES, resizeImage } from "./resize";

const PIXELS = v.pipe(v.number(), v.safeInteger(), v.minValue(1), v.maxValue(16384));
const SIZE = v.union([PIXELS, v.object({ height: PIXELS, width: PIXELS }), v.object({ shortest_edge: PIXELS })]);
/** One value for all channels, or one for each of a grey or a colour image. */
const perChannelOf = <S extends v.GenericSchema<number>>(value: S) =>
  v.union(
    [value, v.pipe(v.array(value), v.length(1)), v.pipe(v.array(value), v.length(3))],
    "expected a number, or a list of 1 or 3; deviations above 0",
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

/** Published files resize to at most twice the size that they cut out. */
const MOST_ENLARGED = 8;

/** What a model's preprocessor_config.json says is done to an image before the model sees it. */
export type Preprocessor = v.InferOutput<typeof SCHEMA>;

/**
 * Reads a model directory's preprocessor_config.json; where there is none, ViT's own values (bilinear, mean and deviation
 * 0.5). Throws FileFormatError for a wrong value.
 */
export async function readPreprocessor(directory: Directory): Promise<Preprocessor> {
  const file = "preprocessor_config.json";
  if ((await directory.size(file)) === undefined) return DEFAULT_PREPROCESSOR;
  return readJson(directory, file, SCHEMA);
}

/**
 * The image as bytes of the model's own size: [channels, rows, columns]. Throws DataError where the configuration gives
 * another size than the model takes.
 */
export function fitImage(image: RawImage, told: Preprocessor, spec: Pick<ImageSpec, "size" | "channels">): Uint8Array {
  const target = told.do_resize === false ? image : sides(told.size ?? spec.size, image);
  const final = told.do_center_crop ? sides(told.crop_size ?? spec.size, target) : target;
  if (final.width !== spec.size || final.height !== spec.size) {
    throw new DataError(
      `preprocessor_config.json makes an image ${final.width} x ${final.height}; the model takes ${spec.size} x ${spec.size}`,
      "use the file that belongs to the model",
    );
  }
  checkResize(image, target, spec.size);
  const coloured = withChannels(image, spec.channels);
  const resized = resizeImage(coloured, target.width, target.height, RESAMPLES[told.resample ?? 2]);
  const { width, height, channels, data } = told.do_center_crop ? centre(resized, final) : resized;
  const planes = new Uint8Array(data.length);
  const perPlane = width * height;
  for (let i = 0; i < data.length; i++) planes[(i % channels) * perPlane + Math.floor(i / channels)] = data[i]!;
  return planes;
}

/**
 * An image ready for a batch. It is kept as bytes, a quarter of what its numbers take, which are made when they are asked
 * for. Throws as `fitImage`.
 */
export function preparedImage(
  image: RawImage,
  label: number,
  told: Preprocessor,
  spec: Pick<ImageSpec, "size" | "channels">,
): ImageSample {
  const bytes = fitImage(image, told, spec);
  return {
    label,
    get pixels() {
      return normaliseImage(bytes, told, spec.channels);
    },
  };
}

/** What ViT's own files say: bilinear, mean and deviation 0.5. */
export const DEFAULT_PREPROCESSOR: Preprocessor = v.parse(SCHEMA, {});

/** Bytes [channels, rows, columns] -> what the model sees. */
export function normaliseImage(bytes: Uint8Array, told: Preprocessor, channels: number): Float32Array {
  const perChannel = (value: number | readonly number[] | null, fallback: number): number[] =>
    Array.from(
      { length: channels },
      (_, i) => (typeof value === "object" ? (value?.[i] ?? value?.[0]) : value) ?? fallback,
    );
  const isPlain = told.do_normalize === false;
  return normalisePixels(bytes, channels, {
    rescale: told.do_rescale === false ? 1 : (told.rescale_factor ?? 1 / 255),
    mean: isPlain ? perChannel(0, 0) : perChannel(told.image_mean, 0.5),
    deviation: isPlain ? perChannel(1, 1) : perChannel(told.image_std, 0.5),
  });
}

/** Before any memory is taken: what is cut from an image is a fair part of it, and no step of it has more pixels than a file may. */
function checkResize(image: Sides, { width, height }: Sides, size: number): void {
  if (width === image.width && height === image.height) return;
  const isSmall = Math.min(width, height) <= MOST_ENLARGED * size;
  if (width > 0 && height > 0 && isSmall && width * Math.max(height, image.height) <= MOST_PIXELS) return;
  throw new DataError(
    `an image of ${image.width} x ${image.height} is to be resized to ${width} x ${height} for a model of ${size} x ${size}`,
    "use the preprocessor_config.json that belongs to the model, or leave the image out",
  );
}

/** Width and height that a `size` asks for: a square, both, or the shorter edge with the other in proportion. */
function sides(size: v.InferOutput<typeof SIZE>, image: Sides): Sides {
  if (typeof size === "number") return { width: size, height: size };
  if ("height" in size) return size;
  const { width, height } = image;
  // Multiplied first: a rounded factor would make the shorter edge of some sizes a pixel too short.
  const scaled = (side: number): number => Math.floor((side * size.shortest_edge) / Math.min(width, height));
  return { width: scaled(width), height: scaled(height) };
}

function centre(image: RawImage, { width, height }: Sides): RawImage {
  const { channels } = image;
  const [left, top] = [Math.floor((image.width - width) / 2), Math.floor((image.height - height) / 2)];
  if (left < 0 || top < 0) {
    throw new DataError(
      `an image of ${image.width} x ${image.height} is to be cropped to ${width} x ${height}`,
      "resize it to at least that first",
    );
  }
  const data = new Uint8Array(width * height * channels);
  for (let row = 0; row < height; row++) {
    const from = ((top + row) * image.width + left) * channels;
    data.set(image.data.subarray(from, from + width * channels), row * width * channels);
  }
  return { width, height, channels, data };
}

/** Grey as three equal colours, or colours as their luminance (ITU-R 601-2, as Pillow rounds it). */
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
  if (channels !== 1) throw new DataError(`the model takes ${channels} channels`, "give it images of your own making");
  const luminance = (i: number): number => {
    const [red, green, blue] = [data[3 * i]!, data[3 * i + 1]!, data[3 * i + 2]!];
    return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
  };
  return { width, height, channels: 1, data: Uint8Array.from({ length: width * height }, (_, i) => luminance(i)) };
}
