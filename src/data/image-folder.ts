import { DataError } from "../base/errors";
import type { Directory } from "../io/directory";
import { directoryAt } from "../io/directory-like";
import type { DirectoryLike } from "../io/directory-like";
import type { ImageSpec } from "../model/model";
import type { ImageSample } from "./images";
import { preparedImage } from "./preprocessor";
import type { Preprocessor } from "./preprocessor";

const IMAGE = /\.(?:png|jpe?g)$/i;

export interface ImageFolderOptions {
  readonly spec: ImageSpec;
  readonly preprocessor: Preprocessor;
}

/** A file with an image of a class. */
export interface ImageFile {
  readonly directory: DirectoryLike;
  readonly file: string;
  /** The class, counted from 0. */
  readonly label: number;
}

/**
 * Reads images from one folder for each class. Labels are the positions in `classes`. Files with other endings than those of
 * PNG and JPEG are skipped. Images are stored as bytes, and converted to numbers whenever a batch needs them.
 * @throws DataError for a class without images, and for a file that cannot be decoded.
 */
export async function readImageFolder(
  classes: readonly DirectoryLike[],
  options: ImageFolderOptions,
): Promise<ImageSample[]> {
  if (classes.length === 0) throw new DataError("there are no class folders", "make a folder for each class");
  const files: ImageFile[] = [];
  for (const [label, place] of classes.entries()) {
    const directory = await directoryAt(place);
    files.push(...(await imageFiles(directory)).map((file) => ({ directory, file, label })));
  }
  return readImages(files, options);
}

/** Names of the images in a folder. @throws DataError if there are none. */
export async function imageFiles(folder: Directory): Promise<string[]> {
  const files = (await folder.list()).filter((file) => IMAGE.test(file));
  if (files.length > 0) return files;
  throw new DataError(`${folder.name} has no PNG or JPEG`, "add images, or remove the folder");
}

/** Reads images that are listed one by one. @throws DataError for a file that cannot be decoded. */
export async function readImages(
  files: readonly ImageFile[],
  { spec, preprocessor }: ImageFolderOptions,
): Promise<ImageSample[]> {
  const { decodeImage } = await import("./decode-image");
  const samples: ImageSample[] = [];
  for (const { directory: place, file, label } of files) {
    const directory = await directoryAt(place);
    const image = await decodeImage(await directory.read(file), `${file} in ${directory.name}`);
    samples.push(preparedImage(image, label, preprocessor, spec));
  }
  return samples;
}
