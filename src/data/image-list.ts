import { directoryAt } from "../io/directory-like";
import type { DirectoryLike } from "../io/directory-like";
import { readCsv } from "./csv";
import { lineError, readLines } from "./text-file";

/** An image that a list names. */
export interface ListedImage {
  /** Path below the data set's folder, with slashes. */
  readonly path: string;
  /** Name of the class. */
  readonly name: string;
}

/** The lists of images that are read: their format, by the ending of their names. */
export type ImageListKind = "csv" | "annotations" | "food";

/**
 * Reads a list of images and their classes: `csv`, lines of `path,class` without a header; `annotations`, TinyImageNet's
 * val_annotations.txt, whose lines begin with file and class, separated by tabs; `food`, Food-101's meta/train.txt, whose lines
 * are `class/name` for `class/name.jpg`.
 * @throws DataError with the line for an empty path or class, and for a path that leads out of the folder.
 */
export async function readImageList(place: DirectoryLike, file: string, kind: ImageListKind): Promise<ListedImage[]> {
  const directory = await directoryAt(place);
  const where = `${file} in ${directory.name}`;
  const rows =
    kind === "csv"
      ? await readCsv(directory, file, { width: 2 })
      : (await readLines(directory, file)).map(({ number, text }) => {
          const cells = kind === "food" ? [`${text}.jpg`, text.split("/", 1)[0]!] : text.split("\t", 2);
          return { line: number, cells };
        });
  return rows.map(({ line, cells: [path = "", name = ""] }) => {
    if (name.trim() === "" || name.includes("\0")) {
      throw lineError(where, line, "no image and class", "give one image and its class in each line");
    }
    const isInside = path
      .split("/")
      .every((part) => part !== "" && part !== "." && part !== ".." && !/[\\\0:]/.test(part));
    if (isInside) return { path, name };
    const fact = `${JSON.stringify(path.slice(0, 100))} is not a path below the folder`;
    throw lineError(where, line, fact, "give paths with single slashes, relative to the data set's folder");
  });
}
