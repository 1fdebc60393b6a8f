import { FileFormatError } from "../base/errors";
import { joined } from "../base/joined";

/** A file's bytes, as one array or in pieces (a large file need not fit in memory). */
export type FileContent = Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

/** A file to be written. */
export interface NewFile {
  readonly file: string;
  readonly content: FileContent;
}

/**
 * A flat directory of files: on disk (`openDirectory`), in memory (`memoryDirectory`) or on a server (`fetchDirectory`).
 * A file name with a path separator is refused, so a name that comes from a file cannot lead out of the directory.
 */
export interface Directory {
  /** Name for error messages: the path or the address. */
  readonly name: string;
  /** Names of the files, sorted. */
  list(): Promise<string[]>;
  /** Size of a file in bytes; undefined if there is no such file. */
  size(file: string): Promise<number | undefined>;
  /**
   * Bytes [start, end) of a file, by default all of them. The caller owns the array, which starts at offset 0 of its
   * buffer.
   * @throws FileFormatError if the file is missing or shorter than `end`.
   */
  read(file: string, start?: number, end?: number): Promise<Uint8Array>;
  /** Creates or replaces a file. On failure the file is as it was. @throws FileFormatError. */
  write(file: string, content: FileContent): Promise<void>;
  /**
   * Creates or replaces files that belong together. The last one makes the others valid (a configuration, an index). All
   * are written to temporary files first, so a full disk changes nothing. Whenever the process dies, the last file exists
   * only together with the files that it was written with.
   * @throws FileFormatError.
   */
  writeTogether(files: readonly NewFile[]): Promise<void>;
  /** Removes a file, if it exists. In a directory without this method, old checkpoints stay. @throws FileFormatError. */
  remove?(file: string): Promise<void>;
}

/** @throws FileFormatError for a name that is not a plain file name. */
export function checkFileName(file: string, directory: string): void {
  const isPlain = file !== "" && file !== "." && file !== ".." && file.length <= 255 && !/[/\\\p{Cc}]/u.test(file);
  if (isPlain) return;
  throw new FileFormatError(
    `${JSON.stringify(file.slice(0, 300))} is not a valid name for a file in ${directory}.`,
    "Use at most 255 characters, without path separators.",
  );
}

/** @throws FileFormatError if [start, end) is not within a file of `size` bytes. */
export function checkRange(file: string, directory: string, size: number, start: number, end: number): void {
  const areIntegers = Number.isSafeInteger(start) && Number.isSafeInteger(end);
  if (areIntegers && start >= 0 && start <= end && end <= size) return;
  throw new FileFormatError(
    `${file} in ${directory} has ${size} bytes; bytes ${start} to ${end} were requested.`,
    "The file is truncated, or changed while it was read: download it again.",
  );
}

/** The error for a file that is not in a directory; `names` are the files that are. */
export function missingFile(file: string, directory: string, names: readonly string[]): FileFormatError {
  const contents = names.length === 0 ? "The directory is empty" : `It contains ${names.slice(0, 12).join(", ")}`;
  const more = names.length > 12 ? ` and ${names.length - 12} more` : "";
  return new FileFormatError(`There is no file ${file} in ${directory}.`, `${contents}${more}: check the path.`);
}

/** The bytes of a file as one array. An array is returned as it is. */
export async function contentBytes(content: FileContent): Promise<Uint8Array> {
  if (content instanceof Uint8Array) return content;
  const pieces: Uint8Array[] = [];
  for await (const piece of content) pieces.push(piece);
  return joined(pieces);
}

/** A copy with a buffer of its own. (`slice` of Node's Buffer shares memory.) */
const copy = (bytes: Uint8Array): Uint8Array => new Uint8Array(bytes);

/** A directory in memory, for browsers and tests. `files` are not copied; `read` returns copies. */
export function memoryDirectory(
  name: string,
  files: Iterable<readonly [string, Uint8Array]> | Readonly<Record<string, Uint8Array>> = [],
): Directory {
  const stored = new Map(Symbol.iterator in files ? files : Object.entries(files));
  for (const file of stored.keys()) checkFileName(file, name);
  const list = (): string[] => [...stored.keys()].sort();
  const store = async (newFiles: readonly NewFile[]): Promise<void> => {
    for (const { file } of newFiles) checkFileName(file, name);
    const contents: [string, Uint8Array][] = [];
    for (const { file, content } of newFiles) contents.push([file, copy(await contentBytes(content))]);
    for (const [file, bytes] of contents) stored.set(file, bytes);
  };
  return {
    name,
    list: () => Promise.resolve(list()),
    size: (file) => Promise.resolve(stored.get(file)?.length),
    read: async (file, start = 0, end) => {
      checkFileName(file, name);
      const bytes = stored.get(file);
      if (bytes === undefined) throw missingFile(file, name, list());
      checkRange(file, name, bytes.length, start, end ?? bytes.length);
      return Promise.resolve(copy(bytes.subarray(start, end ?? bytes.length)));
    },
    write: (file, content) => store([{ file, content }]),
    writeTogether: store,
    remove: (file) => {
      stored.delete(file);
      return Promise.resolve();
    },
  };
}
