import { DataError } from "../base/errors";
import { directoryAt } from "../io/directory-like";
import type { DirectoryLike } from "../io/directory-like";
import type { ImageSpec } from "../model/model";
import type { RawImage } from "./decode-image";
import type { ImageSample } from "./images";
import { DEFAULT_PREPROCESSOR, preparedImage } from "./preprocessor";
import type { Preprocessor } from "./preprocessor";

const [SIDE, CHANNELS] = [32, 3] as const;
const PIXELS = CHANNELS * SIDE ** 2;

export interface CifarOptions {
  /** The images that the model takes. Default CIFAR's 3 x 32 x 32. */
  readonly spec?: Pick<ImageSpec, "size" | "channels">;
  /** Default: that of ViT. */
  readonly preprocessor?: Preprocessor;
}

const CIFAR_SPEC = { size: SIDE, channels: CHANNELS };

/**
 * Reads a binary file of CIFAR-10 or CIFAR-100. An image has one label (CIFAR-100: a coarse and a fine one, of which the fine
 * one is used), then 3 x 32 x 32 bytes.
 * @throws DataError for a file of another size than a multiple of an image's, and for a label that does not exist.
 */
export async function readCifar(
  place: DirectoryLike,
  file: string,
  classes: 10 | 100,
  { spec = CIFAR_SPEC, preprocessor = DEFAULT_PREPROCESSOR }: CifarOptions = {},
): Promise<ImageSample[]> {
  const directory = await directoryAt(place);
  const bytes = await directory.read(file);
  const labels = classes === 100 ? 2 : 1;
  const record = labels + PIXELS;
  const where = `${file} in ${directory.name}`;
  if (bytes.length === 0 || bytes.length % record !== 0) {
    throw new DataError(
      `${where} has ${bytes.length} bytes, not a multiple of ${record}, the size of a CIFAR-${classes} image`,
      "the file is truncated or belongs to the other data set; fetch it again",
    );
  }
  return Array.from({ length: bytes.length / record }, (_, i) => {
    const start = i * record;
    const label = bytes[start + labels - 1]!;
    if (label >= classes) {
      throw new DataError(`${where}: image ${i + 1} has the label ${label}`, `CIFAR-${classes} has ${classes} classes`);
    }
    const image = interleaved(bytes.subarray(start + labels, start + record));
    return preparedImage(image, label, preprocessor, spec);
  });
}

/** Converts CIFAR's planes [3, 32, 32] to pixels [32, 32, 3]. */
function interleaved(planes: Uint8Array): RawImage {
  const perPlane = SIDE ** 2;
  const data = Uint8Array.from(planes, (_, i) => planes[(i % CHANNELS) * perPlane + Math.floor(i / CHANNELS)]!);
  return { width: SIDE, height: SIDE, channels: CHANNELS, data };
}
