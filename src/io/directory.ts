import { FileFormatError } from "../base/errors";

/** A file's bytes, whole or in pieces (so that a large file never lies in memory at once). */
export type FileContent = Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

export interface NewFile {
  readonly file: string;
  readonly content: FileContent;
}

/**
 * One flat directory of files, wherever it lies: on disk (`openDirectory` in `node/directory`), in memory
 * (`memoryDirectory`), behind a server. File names are plain: a name with a path separator is refused, so nothing that a
 * file says can lead out of its directory.
 */
export interface Directory {
  /** What errors call it: the path on disk. */
  readonly name: string;
  /** Names of the files, sorted. */
  list(): Promise<string[]>;
  /** Bytes of a file; undefined where there is none of that name. */
  size(file: string): Promise<number | undefined>;
  /**
   * Bytes [start, end) of a file, the whole one by default, as memory that the caller owns, starting at offset 0 of its
   * own buffer. Throws FileFormatError where the file is missing or shorter than `end`.
   */
  read(file: string, start?: number, end?: number): Promise<Uint8Array>;
  /** Creates or replaces a file: it has the new bytes whole, or is as it was. Throws FileFormatError. */
  write(file: string, content: FileContent): Promise<void>;
  /**
   * Creates or replaces files that belong together, the last of which makes them valid (a configuration, an index). All
   * are written aside first, so a full disk changes nothing. Whenever the process dies, the last file exists only beside
   * the others that it was written with.
   */
  writeTogether(files: readonly NewFile[]): Promise<void>;
  /** Removes a file, if there is one. Without it, checkpoints that are no longer wanted stay. Throws FileFormatError. */
  remove?(file: string): Promise<void>;
}

/** Throws FileFormatError for a name that is not a plain file name. */
export function checkFileName(file: string, directory: string): void {
  const plain = file !== "" && file !== "." && file !== ".." && file.length <= 255 && !/[/\\\p{Cc}]/u.test(file);
  if (plain) return;
  throw new FileFormatError(
    `${JSON.stringify(file.slice(0, 300))} is not the name of a file in ${directory}`,
    "file names have no path separators and stay in their directory",
  );
}

/** Throws FileFormatError where [start, end) is no range of a file of `size` bytes. */
export function checkRange(file: string, directory: string, size: number, start: number, end: number): void {
  const integers = Number.isSafeInteger(start) && Number.isSafeInteger(end);
  if (integers && start >= 0 && start <= end && end <= size) return;
  throw new FileFormatError(
    `${file} in ${directory} has ${size} bytes, but bytes ${start} to ${end} were asked for`,
    "the file is truncated, or changed while it was read: fetch it again",
  );
}

export function missingFile(file: string, directory: string, names: readonly string[]): FileFormatError {
  const found = names.length === 0 ? "the directory is empty" : `there are ${names.slice(0, 12).join(", ")}`;
  const more = names.length > 12 ? ` and ${names.length - 12} more` : "";
  return new FileFormatError(`no file ${file} in ${directory}`, `${found}${more}: check the path`);
}

/** All pieces of a content as one array: what it was given where it was whole. */
export async function contentBytes(content: FileContent): Promise<Uint8Array> {
  if (content instanceof Uint8Array) return content;
  const pieces: Uint8Array[] = [];
  for await (const piece of content) pieces.push(piece);
  const bytes = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}

/** A copy at the start of its own memory; Buffer's `slice` gives none. */
const copy = (bytes: Uint8Array): Uint8Array => new Uint8Array(bytes);

/** A directory in memory, for browsers and tests. The arrays given are not copied; what `read` gives is a copy. */
export function memoryDirectory(
  name: string,
  files: Iterable<readonly [string, Uint8Array]> | Readonly<Record<string, Uint8Array>> = [],
): Directory {
  const stored = new Map(Symbol.iterator in files ? files : Object.entries(files));
  for (const file of stored.keys()) checkFileName(file, name);
  const list = (): string[] => [...stored.keys()].sort();
  const put = async (news: readonly NewFile[]): Promise<void> => {
    for (const { file } of news) checkFileName(file, name);
    const ready: [string, Uint8Array][] = [];
    for (const { file, content } of news) ready.push([file, copy(await contentBytes(content))]);
    for (const [file, bytes] of ready) stored.set(file, bytes);
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
    write: (file, content) => put([{ file, content }]),
    writeTogether: put,
    remove: (file) => {
      stored.delete(file);
      return Promise.resolve();
    },
  };
}
