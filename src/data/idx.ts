import { DataError } from "../base/errors";
import type { Directory } from "../io/directory";
import { directoryAt } from "../io/directory-like";
import type { DirectoryLike } from "../io/directory-like";
import type { ImageSpec } from "../model/model";
import { MAX_PIXELS } from "./decode-image";
import { gunzipped } from "./gunzip";
import type { ImageSample } from "./images";
import { DEFAULT_PREPROCESSOR, preparedImage } from "./preprocessor";
import type { Preprocessor } from "./preprocessor";

/** The classes of Fashion-MNIST (Xiao et al. 2017), in the order of their numbers. */
export const FASHION_MNIST_CLASSES = [
  ...["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"],
] as const;

export interface IdxOptions {
  /** Number of classes. */
  readonly classes: number;
  /** The images that the model takes. Default: those of the file, in grey. */
  readonly spec?: Pick<ImageSpec, "size" | "channels">;
  /** Default: that of ViT. */
  readonly preprocessor?: Preprocessor;
}

/** An array of bytes, as IDX files store it. */
interface IdxArray {
  readonly shape: readonly number[];
  /** In row-major order. */
  readonly data: Uint8Array;
}

/**
 * Reads grey images and their labels from a pair of IDX files, as MNIST and Fashion-MNIST are published, plain or compressed
 * with gzip.
 * @param images name of a file of bytes [images, rows, columns].
 * @param labels name of a file of bytes [images].
 * @throws DataError for a file that is damaged or of another kind, for different numbers of images and labels, and for a label
 * that does not exist; FileFormatError for a missing file.
 */
export async function readIdx(
  place: DirectoryLike,
  images: string,
  labels: string,
  { classes, spec, preprocessor = DEFAULT_PREPROCESSOR }: IdxOptions,
): Promise<ImageSample[]> {
  const directory = await directoryAt(place);
  const { shape, data: labelOf } = await readArray(directory, labels, 1);
  const [count] = shape;
  const bad = labelOf.findIndex((label) => label >= classes);
  if (bad >= 0) {
    const fact = `${labels} in ${directory.name}: image ${bad + 1} has the label ${labelOf[bad]!}`;
    throw new DataError(fact, `the data set has ${classes} classes, numbered from 0`);
  }
  const pixels = await readArray(directory, images, 3, count);
  const [, height = 0, width = 0] = pixels.shape;
  const taken = spec ?? { size: width, channels: 1 };
  return Array.from(labelOf, (label, i) => {
    const data = pixels.data.subarray(i * height * width, (i + 1) * height * width);
    return preparedImage({ width, height, channels: 1, data }, label, preprocessor, taken);
  });
}

/** The type of unsigned bytes in an IDX header. */
const UNSIGNED_BYTES = 0x08;

/**
 * Reads an IDX file: two zero bytes, the type, the number of axes, the length of each axis (32 bits, most significant byte
 * first), the values.
 */
async function readArray(directory: Directory, file: string, axes: number, count?: number): Promise<IdxArray> {
  const where = `${file} in ${directory.name}`;
  const stored = await directory.read(file);
  const isZipped = stored[0] === 0x1f && stored[1] === 0x8b;
  const headerBytes = 4 + 4 * axes;
  const header = isZipped ? await gunzipped(stored, headerBytes, where) : stored;
  if (header.length < 4 || header[0] !== 0 || header[1] !== 0) {
    throw new DataError(`${where} is not an IDX file`, "give the published files, such as train-images-idx3-ubyte");
  }
  if (header[2] !== UNSIGNED_BYTES || header[3] !== axes) {
    const fact = `${where} has ${header[3]!} axes of type ${header[2]!}, not ${axes} of unsigned bytes`;
    throw new DataError(fact, "give images as bytes with 3 axes, and labels as bytes with 1");
  }
  if (header.length < headerBytes) throw new DataError(`${where} is cut off in its header`, "fetch it again");
  const view = new DataView(header.buffer, header.byteOffset);
  const shape = Array.from({ length: axes }, (_, i) => view.getUint32(4 + 4 * i));
  const isEmpty = shape.some((length) => length === 0);
  if (isEmpty || shape.slice(1).reduce((product, length) => product * length, 1) > MAX_PIXELS) {
    throw new DataError(
      `${where} has the shape ${shape.join(" x ")}`,
      "give images with at least one pixel, not too many",
    );
  }
  if (count !== undefined && shape[0] !== count) {
    throw new DataError(`${where} has ${shape[0]!} images for ${count} labels`, "give the labels of the same images");
  }
  const size = headerBytes + shape.reduce((product, length) => product * length, 1);
  const content = isZipped ? await gunzipped(stored, size + 1, where) : stored;
  if (content.length !== size) {
    const actual = content.length > size ? "more" : String(content.length);
    const fact = `${where} declares ${shape.join(" x ")} values, which take ${size} bytes, and has ${actual}`;
    throw new DataError(fact, "the file is damaged; fetch it again");
  }
  return { shape, data: content.subarray(headerBytes) };
}
