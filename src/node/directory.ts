import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { mkdir, open, readdir, rename, rm, stat } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { FileFormatError, SafetapeError } from "../base/errors";
import { checkFileName, checkRange, contentBytes, missingFile } from "../io/directory";
import type { Directory, FileContent, NewFile } from "../io/directory";

/** One call of read or write moves at most this much. */
const CHUNK_BYTES = 1 << 30;

/** Names of files that are being written: hidden from `list`, left behind only by a process that was killed. */
const PARTIAL = /^\..+\.(\d+)-[0-9a-f]+\.partial$/;

function partialPath(path: string, file: string): string {
  return join(path, `.${file.slice(0, 200)}.${process.pid}-${randomBytes(6).toString("hex")}.partial`);
}

/**
 * A directory on disk. Links in it are followed (the Hugging Face cache is made of them), names that lead out of it are
 * refused. Throws FileFormatError where there is none, unless `create` is set, which makes it and its parents.
 */
export async function openDirectory(path: string, { create = false }: { create?: boolean } = {}): Promise<Directory> {
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
  // Asked first: to open a pipe or a device would wait for ever.
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
  let at = 0;
  while (at < bytes.length) {
    const { bytesRead } = await handle.read(bytes, at, Math.min(CHUNK_BYTES, bytes.length - at), start + at);
    if (bytesRead === 0) checkRange(file, path, start + at, start, end);
    at += bytesRead;
  }
  return bytes;
}

/** Directory.writeTogether: every file aside and flushed, then renamed, the last one last. */
async function writeTogether(path: string, files: readonly NewFile[]): Promise<void> {
  for (const { file } of files) checkFileName(file, path);
  await sweep(path);
  const partials: string[] = [];
  try {
    for (const { file, content } of files) {
      const partial = partialPath(path, file);
      partials.push(partial);
      await explained(`cannot write ${file} in ${path}`, () => writeAside(partial, content));
    }
    await explained(`cannot replace files in ${path}`, () => replace(path, files, partials));
  } finally {
    await Promise.all(partials.map((partial) => rm(partial, { force: true }).catch(() => undefined)));
  }
}

async function writeAside(partial: string, content: FileContent): Promise<void> {
  const handle = await open(partial, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL);
  try {
    for await (const piece of content instanceof Uint8Array ? [content] : content) await writeAll(handle, piece);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function writeAll(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) {
    const { bytesWritten } = await handle.write(bytes, at, Math.min(CHUNK_BYTES, bytes.length - at));
    at += bytesWritten;
  }
}

/**
 * The last file, which makes the others valid, is taken away before they change and comes back last. Where its bytes
 * stay the same (saving one adapter again and again) it need not go, and there is a valid whole at every moment.
 */
async function replace(path: string, files: readonly NewFile[], partials: readonly string[]): Promise<void> {
  const marker = files.at(-1);
  const target = marker && join(path, marker.file);
  const goes = marker !== undefined && files.length > 1 && (await size(path, marker.file)) !== undefined;
  const backup = goes && !(await holds(path, marker)) ? partialPath(path, marker.file) : undefined;
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

async function holds(path: string, { file, content }: NewFile): Promise<boolean> {
  if (!(content instanceof Uint8Array) || (await size(path, file)) !== content.length) return false;
  const bytes = await contentBytes(await read(path, file));
  return bytes.every((byte, index) => byte === content[index]);
}

/** Makes the renames last through a power cut, where the platform can. */
async function flushDirectory(path: string): Promise<void> {
  const handle = await open(path).catch(() => undefined);
  await handle?.sync().catch(() => undefined);
  await handle?.close();
}

/** Removes what killed processes left behind, one that had this process's number included. */
async function sweep(path: string): Promise<void> {
  const names = await readdir(path).catch((): string[] => []);
  for (const name of names) {
    const pid = PARTIAL.exec(name)?.[1];
    if (pid === undefined) continue;
    const partial = join(path, name);
    const dead = Number(pid) === process.pid ? await isOlderThanProcess(partial) : !isAlive(Number(pid));
    if (dead) await rm(partial, { force: true }).catch(() => undefined);
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
    return (error as NodeJS.ErrnoException).code !== "ESRCH";
  }
}

const REMEDIES: Readonly<Record<string, string>> = {
  ENOSPC: "the disk is full: free some space; what was there is unchanged",
  EDQUOT: "the disk quota is used up: free some space; what was there is unchanged",
  EFBIG: "the file would be larger than is allowed here: check `ulimit -f`; what was there is unchanged",
  EACCES: "permission is denied: check the owner and mode of the directory",
  EPERM: "permission is denied: check the owner and mode of the directory",
  EROFS: "the file system is read-only: choose another directory",
  EEXIST: "a file is in the way: remove it or choose another directory",
  ENOTDIR: "a part of the path is a file: choose another directory",
  EMFILE: "too many files are open: close some, or raise `ulimit -n`",
};

/** Runs it; an error of the operating system becomes a FileFormatError that begins with `fact`. */
async function explained<T>(fact: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    if (cause instanceof SafetapeError || typeof code !== "string") throw cause;
    const remedy = REMEDIES[code] ?? "check that the directory still exists and can be used";
    throw new FileFormatError(`${fact}: ${code}`, remedy, { cause });
  }
}
