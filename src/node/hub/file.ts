import { createHash } from "node:crypto";
import type { Hash } from "node:crypto";
import { createReadStream } from "node:fs";
import { open, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { DownloadError } from "../../base/errors";
import { errorCode, flushDirectory } from "../directory";
import type { ExpectedFile } from "./choose";
import { NotContinuedError } from "./fetch";

/** Requests the bytes of a file from byte `start` on. They may end early, or fail. */
export type Source = (start: number) => AsyncIterable<Uint8Array>;

export interface FileOptions {
  /** Consecutive requests without a new byte after which the download fails. */
  readonly attempts: number;
  /** Called with the number of bytes that are there. */
  readonly onBytes: (done: number) => void;
}

/**
 * Downloads one file into a directory. Its bytes go to a partial file, which a later call continues, and which is renamed
 * once its size and hash are right.
 * @returns false if the file was there already.
 * @throws DownloadError; a partial file with wrong bytes is removed.
 */
export async function fetchFile(
  directory: string,
  file: ExpectedFile,
  source: Source,
  options: FileOptions,
): Promise<boolean> {
  const target = join(directory, file.file);
  if ((await sizeOf(target)) === file.size && (await hashOf(target, file)).digest("hex") === file.hash) return false;
  // The hash in the name prevents continuing the partial file of another revision.
  const part = join(directory, `.${file.file}.${file.hash.slice(0, 16)}.part`);
  const hash = await completePart(part, file, source, options).catch(async (failure: unknown) => {
    if ((await sizeOf(part)) === 0) await rm(part, { force: true });
    throw failure;
  });
  if ((await sizeOf(part)) !== file.size || hash.digest("hex") !== file.hash) throw await wrongBytes(part, file);
  await rename(part, target);
  await flushDirectory(directory);
  return true;
}

async function wrongBytes(part: string, { file, algorithm }: ExpectedFile): Promise<DownloadError> {
  await rm(part, { force: true });
  return new DownloadError(
    `the bytes received for ${file} do not have the ${algorithm === "sha256" ? "SHA-256" : "SHA-1"} that the server lists`,
    "they were removed: fetch the file again, and over another network if this happens again",
  );
}

/** Appends to the partial file until it has all bytes, and returns their hash. */
async function completePart(
  part: string,
  file: ExpectedFile,
  source: Source,
  { attempts, onBytes }: FileOptions,
): Promise<Hash> {
  let [done, hash] = [(await sizeOf(part)) ?? 0, await hashOf(part, file)];
  if (done > file.size) throw await wrongBytes(part, file);
  for (let fruitless = 0; ;) {
    const { failure, written } = await append(part, file, { source, hash, start: done, onBytes });
    done += written;
    if (done === file.size && failure === undefined) return hash;
    if (failure instanceof NotContinuedError) {
      await rm(part, { force: true });
      [done, hash] = [0, await hashOf(part, file)];
    } else if (failure instanceof DownloadError) throw failure;
    fruitless = written > 0 && !(failure instanceof NotContinuedError) ? 0 : fruitless + 1;
    if (fruitless >= attempts) throw connectionLost(file, done);
  }
}

const connectionLost = ({ file, size }: ExpectedFile, done: number): DownloadError =>
  new DownloadError(
    `the connection was lost at byte ${done} of the ${size} of ${file}`,
    "run it again: it continues from there",
  );

interface AppendOptions {
  readonly source: Source;
  /** Updated with the bytes that are written. */
  readonly hash: Hash;
  readonly start: number;
  readonly onBytes: (done: number) => void;
}

/** Appends the bytes of one request. Returns the number of bytes written and the error that ended the request, if any. */
async function append(
  part: string,
  { size, file }: ExpectedFile,
  { source, hash, start, onBytes }: AppendOptions,
): Promise<{ readonly written: number; readonly failure?: unknown }> {
  const handle = await open(part, "a").catch((error: unknown) => Promise.reject(cannotWrite(file, error)));
  let written = 0;
  try {
    if (start === size) return { written };
    for await (const bytes of source(start)) {
      if (start + written + bytes.length > size) {
        const failure = new NotContinuedError(`received more than ${size} bytes of ${file}`, "fetch it again");
        return { written, failure };
      }
      await handle.appendFile(bytes).catch((error: unknown) => Promise.reject(cannotWrite(file, error)));
      hash.update(bytes);
      written += bytes.length;
      onBytes(start + written);
    }
    return { written };
  } catch (failure) {
    return { written, failure };
  } finally {
    await handle.sync().catch(() => undefined);
    await handle.close();
  }
}

/** The error of a write. Repeating the request would not help. */
function cannotWrite(file: string, cause: unknown): DownloadError {
  const code = errorCode(cause) ?? "unknown error";
  const remedy =
    code === "ENOSPC" ? "the disk is full: free some space; fetched bytes are kept" : "check the directory";
  return new DownloadError(`cannot write ${file}: ${code}`, remedy, { cause });
}

/** A hash that has read the bytes of a file so far, if it exists. Git's hash begins with the size of the complete file. */
async function hashOf(path: string, { algorithm, size }: ExpectedFile): Promise<Hash> {
  const hash = createHash(algorithm === "sha256" ? "sha256" : "sha1");
  if (algorithm === "git-sha1") hash.update(`blob ${size}\0`);
  if ((await sizeOf(path)) === undefined) return hash;
  // A stream without an encoding yields buffers.
  for await (const bytes of createReadStream(path)) hash.update(bytes as Uint8Array);
  return hash;
}

async function sizeOf(path: string): Promise<number | undefined> {
  const stats = await stat(path).catch(() => undefined);
  return stats?.isFile() === true ? stats.size : undefined;
}
