import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { mkdir, open, readdir, rename, rm, stat } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { FileFormatError, SafetapeError } from "../base/errors";
import { checkFileName, checkRange, contentBytes, missingFile } from "../io/directory";
import type { Directory, FileContent, NewFile } from "../io/directory";
import type { OpenOptions } from "../io/directory-like";

/** Most bytes of one call of read or write. */
const CHUNK_BYTES = 1 << 30;

/** Names of files that are being written. `list` hides them; only a process that is killed leaves them behind. */
const PARTIAL = /^\..+\.(\d+)-[0-9a-f]+\.partial$/;

function partialPath(path: string, file: string): string {
  return join(path, `.${file.slice(0, 200)}.${process.pid}-${randomBytes(6).toString("hex")}.partial`);
}

/**
 * Opens a directory on disk. Symbolic links in it are followed, because the Hugging Face cache consists of them; file names
 * with a path are refused. `create` makes the directory and its parents if they do not exist.
 * @param place its path, or a `file:` address.
 * @throws FileFormatError if the directory does not exist or cannot be created.
 */
export async function openDirectory(place: string | URL, { create = false }: OpenOptions = {}): Promise<Directory> {
  const path = pathOf(place);
  if (create) await explained(`cannot create the directory ${path}`, () => mkdir(path, { recursive: true }));
  const stats = await stat(path).catch(() => undefined);
  if (stats === undefined || !stats.isDirectory()) {
    throw new FileFormatError(
      stats === undefined ? `no directory at ${path}` : `${path} is a file, not a directory`,
      "check the path, relative to the current directory",
    );
  }
  return {
    name: path,
    list: () => list(path),
    size: (file) => size(path, file),
    read: (file, start, end) => read(path, file, start, end),
    write: (file, content) => writeTogether(path, [{ file, content }]),
    writeTogether: (files) => writeTogether(path, files),
    remove: (file) => remove(path, file),
  };
}

/** The path that a string or a `file:` address stands for. @throws FileFormatError for an address of another kind. */
export function pathOf(place: string | URL): string {
  if (typeof place === "string" && !place.startsWith("file:")) return place;
  const { protocol } = new URL(place);
  if (protocol === "file:") return fileURLToPath(place);
  throw new FileFormatError(`${String(place)} is not on disk`, "pass a path, or use fetchDirectory(address)");
}

async function list(path: string): Promise<string[]> {
  const entries = await explained(`cannot list ${path}`, () => readdir(path, { withFileTypes: true }));
  const files = entries.filter((entry) => entry.isFile() || entry.isSymbolicLink()).map((entry) => entry.name);
  return files.filter((file) => !PARTIAL.test(file)).sort();
}

async function size(path: string, file: string): Promise<number | undefined> {
  checkFileName(file, path);
  const stats = await stat(join(path, file)).catch(() => undefined);
  return stats?.isFile() === true ? stats.size : undefined;
}

async function remove(path: string, file: string): Promise<void> {
  checkFileName(file, path);
  await explained(`cannot remove ${file} in ${path}`, () => rm(join(path, file), { force: true }));
}

async function read(path: string, file: string, start = 0, end?: number): Promise<Uint8Array> {
  // Checked first, because opening a pipe or a device could block forever.
  if ((await size(path, file)) === undefined) throw missingFile(file, path, await list(path));
  return explained(`cannot read ${file} in ${path}`, async () => {
    const handle = await open(join(path, file));
    try {
      const fileSize = (await handle.stat()).size;
      checkRange(file, path, fileSize, start, end ?? fileSize);
      return await readRange(handle, file, path, start, end ?? fileSize);
    } finally {
      await handle.close();
    }
  });
}

async function readRange(
  handle: FileHandle,
  file: string,
  path: string,
  start: number,
  end: number,
): Promise<Uint8Array> {
  const bytes = new Uint8Array(end - start);
  let done = 0;
  while (done < bytes.length) {
    const { bytesRead } = await handle.read(bytes, done, Math.min(CHUNK_BYTES, bytes.length - done), start + done);
    // The file was truncated after its size was checked: this throws.
    if (bytesRead === 0) checkRange(file, path, start + done, start, end);
    done += bytesRead;
  }
  return bytes;
}

/** Writes every file under a temporary name and flushes it; then renames them all, the last file last. */
async function writeTogether(path: string, files: readonly NewFile[]): Promise<void> {
  for (const { file } of files) checkFileName(file, path);
  await removeStale(path);
  const partials: string[] = [];
  try {
    for (const { file, content } of files) {
      const partial = partialPath(path, file);
      partials.push(partial);
      await explained(`cannot write ${file} in ${path}`, () => writePartial(partial, content));
    }
    await explained(`cannot replace files in ${path}`, () => replace(path, files, partials));
  } finally {
    await Promise.all(partials.map((partial) => rm(partial, { force: true }).catch(() => undefined)));
  }
}

async function writePartial(partial: string, content: FileContent): Promise<void> {
  const handle = await open(partial, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL);
  try {
    for await (const piece of content instanceof Uint8Array ? [content] : content) await writeAll(handle, piece);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function writeAll(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    done += (await handle.write(bytes, done, Math.min(CHUNK_BYTES, bytes.length - done))).bytesWritten;
  }
}

/**
 * Renames the temporary files. The last file makes the others valid: it is moved away before they change, and replaced
 * after them. If its bytes do not change (an adapter is saved repeatedly) it stays, and the directory is always valid.
 */
async function replace(path: string, files: readonly NewFile[], partials: readonly string[]): Promise<void> {
  const last = files.at(-1);
  const target = last && join(path, last.file);
  const isReplaced = last !== undefined && files.length > 1 && (await size(path, last.file)) !== undefined;
  const backup = isReplaced && !(await hasContent(path, last)) ? partialPath(path, last.file) : undefined;
  if (backup !== undefined) await rename(target!, backup);
  let renamed = 0;
  try {
    for (; renamed < files.length; renamed++) await rename(partials[renamed]!, join(path, files[renamed]!.file));
  } catch (error) {
    if (backup !== undefined && renamed === 0) await rename(backup, target!);
    throw error;
  } finally {
    if (backup !== undefined) await rm(backup, { force: true });
  }
  await flushDirectory(path);
}

async function hasContent(path: string, { file, content }: NewFile): Promise<boolean> {
  if (!(content instanceof Uint8Array) || (await size(path, file)) !== content.length) return false;
  const bytes = await contentBytes(await read(path, file));
  return bytes.every((byte, index) => byte === content[index]);
}

/** Makes renames in a directory durable, if the platform supports it. */
export async function flushDirectory(path: string): Promise<void> {
  const handle = await open(path).catch(() => undefined);
  await handle?.sync().catch(() => undefined);
  await handle?.close();
}

/** Removes files that killed processes left behind, including an earlier process with the number of this one. */
async function removeStale(path: string): Promise<void> {
  const names = await readdir(path).catch((): string[] => []);
  for (const name of names) {
    const pid = PARTIAL.exec(name)?.[1];
    if (pid === undefined) continue;
    const partial = join(path, name);
    const isStale = Number(pid) === process.pid ? await isOlderThanProcess(partial) : !isAlive(Number(pid));
    if (isStale) await rm(partial, { force: true }).catch(() => undefined);
  }
}

async function isOlderThanProcess(file: string): Promise<boolean> {
  const stats = await stat(file).catch(() => undefined);
  return stats !== undefined && stats.mtimeMs < Date.now() - process.uptime() * 1000;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errorCode(error) !== "ESRCH";
  }
}

/** The code of an error of the operating system, such as ENOENT; undefined for other errors. */
export function errorCode(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}

const REMEDIES: Readonly<Record<string, string>> = {
  ENOSPC: "the disk is full: free some space; existing files are unchanged",
  EDQUOT: "the disk quota is used up: free some space; existing files are unchanged",
  EFBIG: "the file would exceed the size limit: check `ulimit -f`; existing files are unchanged",
  EACCES: "permission is denied: check the owner and mode of the directory",
  EPERM: "permission is denied: check the owner and mode of the directory",
  EROFS: "the file system is read-only: choose another directory",
  EEXIST: "a file is in the way: remove it or choose another directory",
  ENOTDIR: "a part of the path is a file: choose another directory",
  EMFILE: "too many files are open: close some, or raise `ulimit -n`",
};

/** Runs an action. An error of the operating system becomes a FileFormatError that begins with `fact`. */
export async function explained<T>(fact: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (cause) {
    const code = errorCode(cause);
    if (cause instanceof SafetapeError || code === undefined) throw cause;
    const remedy = REMEDIES[code] ?? "check that the directory still exists and can be used";
    throw new FileFormatError(`${fact}: ${code}`, remedy, { cause });
  }
}
