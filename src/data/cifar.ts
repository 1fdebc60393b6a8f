import { DataError } from "../base/errors";
import type { Directory } from "../io/directory";
import { normalisePixels } from "./images";
import type { ImageSample, Normalisation } from "./images";

const [SIDE, CHANNELS] = [32, 3];
const PIXELS = CHANNELS * SIDE ** 2;

/**
 * Reads a binary file of CIFAR-10 (a label, then 3 x 32 x 32 bytes, an image) or CIFAR-100 (a coarse and a fine label; the
 * fine one is taken). Throws DataError for a file that is no whole number of images, or a label that does not exist.
 */
export async function readCifar(
  directory: Directory,
  file: string,
  classes: 10 | 100,
  options: Normalisation = {},
): Promise<ImageSample[]> {
  const bytes = await directory.read(file);
  const labels = classes === 100 ? 2 : 1;
  const record = labels + PIXELS;
  const where = `${file} in ${directory.name}`;
  if (bytes.length === 0 || bytes.length % record !== 0) {
    throw new DataError(
      `${where} has ${bytes.length} bytes, no whole number of CIFAR-${classes} images of ${record}`,
      "the file is truncated, or of the other data set: fetch it again",
    );
  }
  return Array.from({ length: bytes.length / record }, (_, i) => {
    const start = i * record;
    const label = bytes[start + labels - 1] as number;
    if (label >= classes) {
      throw new DataError(`${where}: image ${i + 1} has the label ${label}`, `CIFAR-${classes} has ${classes} classes`);
    }
    return { pixels: normalisePixels(bytes.subarray(start + labels, start + record), CHANNELS, options), label };
  });
}
