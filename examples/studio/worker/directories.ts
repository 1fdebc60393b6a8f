// Directories of files that the user gave, and of the browser's own storage (OPFS).
import { FileFormatError } from "../../../src/base/errors";
import { checkFileName, checkRange, missingFile } from "../../../src/io/directory";
import type { Directory, FileContent, NewFile } from "../../../src/io/directory";
import { STORAGE_FULL } from "../protocol";
import type { GivenFile } from "../protocol";

/** A directory of blobs, such as the files of a dropped folder, which stay where they are until they are read. */
export class BlobDirectory implements Directory {
  readonly files: Map<string, Blob>;

  constructor(
    readonly name: string,
    files: Iterable<readonly [string, Blob]> = [],
  ) {
    this.files = new Map(files);
  }

  async list(): Promise<string[]> {
    return Promise.resolve([...this.files.keys()].sort());
  }

  async size(file: string): Promise<number | undefined> {
    return Promise.resolve(this.files.get(file)?.size);
  }

  async read(file: string, start = 0, end?: number): Promise<Uint8Array> {
    checkFileName(file, this.name);
    const blob = this.files.get(file);
    if (!blob) throw missingFile(file, this.name, await this.list());
    return readBlob(blob, file, this.name, start, end);
  }

  async write(file: string, content: FileContent): Promise<void> {
    await this.writeTogether([{ file, content }]);
  }

  async writeTogether(files: readonly NewFile[]): Promise<void> {
    const written: [string, Blob][] = [];
    for (const { file, content } of files) {
      checkFileName(file, this.name);
      written.push([file, await blobOf(content)]);
    }
    for (const [file, blob] of written) this.files.set(file, blob);
  }

  async remove(file: string): Promise<void> {
    this.files.delete(file);
    return Promise.resolve();
  }
}

/** A blob of a content's pieces, each of which leaves this program's memory as soon as it is there. */
async function blobOf(content: FileContent): Promise<Blob> {
  const parts: Blob[] = [];
  for await (const piece of content instanceof Uint8Array ? [content] : content) parts.push(new Blob([bytesOf(piece)]));
  return new Blob(parts);
}

/** What blobs and files take: bytes that no other thread can change. */
// A SharedArrayBuffer is nowhere in this program, which the compiler cannot know.
const bytesOf = (piece: Uint8Array): Uint8Array<ArrayBuffer> => piece as Uint8Array<ArrayBuffer>;

async function readBlob(blob: Blob, file: string, where: string, start: number, end = blob.size): Promise<Uint8Array> {
  checkRange(file, where, blob.size, start, end);
  try {
    return new Uint8Array(await blob.slice(start, end).arrayBuffer());
  } catch (cause) {
    const fact = `${file} in ${where} cannot be read any more.`;
    throw new FileFormatError(fact, "It was moved or changed since it was given: give the folder again.", { cause });
  }
}

/** The folder that given files are directly in. Those of folders below it are left out. */
export function givenDirectory(name: string, files: readonly GivenFile[]): BlobDirectory {
  const paths = files.map(({ path }) => path.split("/"));
  const depth = Math.min(...paths.map((path) => path.length));
  const inFolder = files.flatMap(({ file }, i): [string, Blob][] => {
    const path = paths[i]!;
    return path.length === depth ? [[path[depth - 1]!, file]] : [];
  });
  return new BlobDirectory(name, inFolder);
}

/** Bytes of a write. Of one of megabytes Chromium does not say that the storage is full, but only that it failed. */
const WRITE_BYTES = 64 * 1024;

/** A directory in the browser's own storage. A file is replaced as a whole when all of its bytes are written. */
export function storedDirectory(name: string, handle: FileSystemDirectoryHandle): Directory {
  const blobAt = async (file: string): Promise<File | undefined> => {
    checkFileName(file, name);
    const found = await handle.getFileHandle(file).catch(() => undefined);
    return found?.getFile();
  };
  const list = async (): Promise<string[]> => {
    const names: string[] = [];
    for await (const [entry, { kind }] of entriesOf(handle)) if (kind === "file") names.push(entry);
    return names.sort();
  };
  /** Writes a file beside the one that it replaces; `close` puts it in its place. */
  const stage = async ({ file, content }: NewFile): Promise<FileSystemWritableFileStream> => {
    checkFileName(file, name);
    const stream = await (await handle.getFileHandle(file, { create: true })).createWritable();
    try {
      for await (const piece of content instanceof Uint8Array ? [content] : content) {
        for (let start = 0; start < piece.length; start += WRITE_BYTES)
          await stream.write(bytesOf(piece.subarray(start, start + WRITE_BYTES)));
      }
      return stream;
    } catch (error) {
      await stream.abort().catch(() => undefined);
      throw error;
    }
  };
  const writeTogether = async (files: readonly NewFile[]): Promise<void> => {
    const existed = new Set<string>();
    const staged: FileSystemWritableFileStream[] = [];
    let closed = 0;
    try {
      // Where the folder itself was deleted, this fails already.
      for (const file of await list()) existed.add(file);
      for (const file of files) staged.push(await stage(file));
      for (; closed < staged.length; closed++) await staged[closed]!.close();
    } catch (cause) {
      for (const stream of staged.slice(closed)) await stream.abort().catch(() => undefined);
      // A new file is there without bytes as soon as it is opened.
      for (const { file } of files.slice(closed)) {
        if (!existed.has(file)) await handle.removeEntry(file).catch(() => undefined);
      }
      throw storageFault(name, cause);
    }
  };
  return {
    name,
    list,
    size: async (file) => (await blobAt(file))?.size,
    read: async (file, start = 0, end) => {
      const blob = await blobAt(file);
      if (!blob) throw missingFile(file, name, await list());
      return readBlob(blob, file, name, start, end);
    },
    write: (file, content) => writeTogether([{ file, content }]),
    writeTogether,
    remove: async (file) => {
      checkFileName(file, name);
      await handle.removeEntry(file).catch(() => undefined);
    },
  };
}

/** The browser allows this page no more bytes. */
export class StorageFullError extends FileFormatError {
  // The page, which offers to delete something, knows it by this name.
  override name = STORAGE_FULL;
}

function storageFault(name: string, cause: unknown): FileFormatError {
  const isFull = cause instanceof DOMException && cause.name === "QuotaExceededError";
  return isFull
    ? new StorageFullError(
        "This browser's storage is full; what was there before is unchanged.",
        "Delete something under Stored in this browser.",
        { cause },
      )
    : new FileFormatError(
        `${name} cannot be written: ${cause instanceof Error ? cause.message : String(cause)}`,
        "Allow this page to store files, or leave private browsing.",
        { cause },
      );
}

/** Names and handles in a directory, which TypeScript's DOM does not declare as iterable everywhere. */
function entriesOf(handle: FileSystemDirectoryHandle): AsyncIterable<[string, FileSystemHandle]> {
  return handle.entries();
}

/** The folders of the browser's storage that this page uses. */
export const MODELS = "models";
export const RUN = "run";

const root = async (): Promise<FileSystemDirectoryHandle> =>
  (await navigator.storage.getDirectory()).getDirectoryHandle("safetape-studio", { create: true });

/** A folder in the browser's storage, made where it is missing. */
export async function storedFolder(...path: readonly string[]): Promise<Directory> {
  let handle = await root();
  for (const name of path) handle = await handle.getDirectoryHandle(name, { create: true });
  return storedDirectory(path.join("/"), handle);
}

const isFolder = (handle: FileSystemHandle): handle is FileSystemDirectoryHandle => handle.kind === "directory";
const isFile = (handle: FileSystemHandle): handle is FileSystemFileHandle => handle.kind === "file";

/** Names and bytes of the folders in a folder of the browser's storage. */
export async function storedFolders(path: string): Promise<{ readonly name: string; readonly bytes: number }[]> {
  const parent = await (await root()).getDirectoryHandle(path, { create: true });
  const folders: { name: string; bytes: number }[] = [];
  for await (const [name, handle] of entriesOf(parent)) {
    if (isFolder(handle)) folders.push({ name, bytes: await bytesBelow(handle) });
  }
  return folders;
}

/** Bytes of the files in a folder of the browser's storage, and below it. */
export async function storedBytes(path: string): Promise<number> {
  return bytesBelow(await (await root()).getDirectoryHandle(path, { create: true }));
}

async function bytesBelow(folder: FileSystemDirectoryHandle): Promise<number> {
  let bytes = 0;
  for await (const [, handle] of entriesOf(folder)) {
    if (isFolder(handle)) bytes += await bytesBelow(handle);
    else if (isFile(handle)) bytes += (await handle.getFile()).size;
  }
  return bytes;
}

/** Removes a folder of the browser's storage with all that is in it. */
export async function removeStored(...path: readonly string[]): Promise<void> {
  let parent = await root();
  for (const name of path.slice(0, -1)) parent = await parent.getDirectoryHandle(name, { create: true });
  await parent.removeEntry(path.at(-1)!, { recursive: true }).catch(() => undefined);
}

const PIECE_BYTES = 16 * 2 ** 20;

/** A file's bytes in pieces, so that a large one is never in memory as a whole. */
export async function* pieces(from: Directory, file: string): AsyncGenerator<Uint8Array, void, undefined> {
  const size = (await from.size(file)) ?? 0;
  for (let start = 0; start < size; start += PIECE_BYTES) {
    yield await from.read(file, start, Math.min(size, start + PIECE_BYTES));
  }
}

/** A directory with one file replaced. */
export function withFile(directory: Directory, file: string, bytes: Uint8Array): Directory {
  return {
    ...directory,
    name: directory.name,
    list: () => directory.list(),
    write: (name, content) => directory.write(name, content),
    writeTogether: (files) => directory.writeTogether(files),
    size: (name) => (name === file ? Promise.resolve(bytes.length) : directory.size(name)),
    read: async (name, start = 0, end) =>
      name === file ? Promise.resolve(bytes.slice(start, end)) : directory.read(name, start, end),
  };
}
