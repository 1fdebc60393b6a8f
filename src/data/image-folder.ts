import { DataError } from "../base/errors";
import type { Directory } from "../io/directory";
import type { ImageSpec } from "../model/model";
import type { ImageSample } from "./images";
import { preparedImage } from "./preprocessor";
import type { Preprocessor } from "./preprocessor";

const IMAGE = /\.(?:png|jpe?g)$/i;

export interface ImageFolderOptions {
  readonly spec: ImageSpec;
  readonly preprocessor: Preprocessor;
}

/**
 * Reads images from one folder for each class. Labels are the positions in `classes`. Files with other endings than those of
 * PNG and JPEG are skipped. Images are stored as bytes, and converted to numbers whenever a batch needs them.
 * @throws DataError for a class without images, and for a file that cannot be decoded.
 */
export async function readImageFolder(
  classes: readonly Directory[],
  { spec, preprocessor }: ImageFolderOptions,
): Promise<ImageSample[]> {
  if (classes.length === 0) throw new DataError("there are no class folders", "make a folder for each class");
  const { decodeImage } = await import("./decode-image");
  const samples: ImageSample[] = [];
  for (const [label, folder] of classes.entries()) {
    const files = (await folder.list()).filter((file) => IMAGE.test(file));
    if (files.length === 0)
      throw new DataError(`${folder.name} has no PNG or JPEG`, "add images, or remove the folder");
    for (const file of files) {
      const image = await decodeImage(await folder.read(file), `${file} in ${folder.name}`);
      samples.push(preparedImage(image, label, preprocessor, spec));
    }
  }
  return samples;
}
