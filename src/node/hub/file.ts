import { createHash } from "node:crypto";
import type { Hash } from "node:crypto";
import { createReadStream } from "node:fs";
import { open, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { DownloadError } from "../../base/errors";
import type { Promised } from "./choose";
import { NotContinuedError } from "./fetch";

/** Bytes of a file from a place on, as a server gives them. May end early, or fail. */
export type Source = (from: number) => AsyncIterable<Uint8Array>;

export interface FileOptions {
  /** Times that a cut connection is taken up again without a byte gained. */
  readonly attempts: number;
  readonly onBytes: (done: number) => void;
}

/**
 * Brings one file into a directory: into a file of another name, which a later call continues, and which gets the name only
 * once its size and hash are right. True where it was there already. @throws DownloadError, without the other file where its
 * bytes were wrong.
 */
export async function fetchFile(
  directory: string,
  file: Promised,
  source: Source,
  options: FileOptions,
): Promise<boolean> {
  const target = join(directory, file.file);
  if ((await sizeOf(target)) === file.size && (await hashOf(target, file)).digest("hex") === file.hash) return true;
  // Of these very bytes: another revision's part is not continued.
  const part = join(directory, `.${file.file}.${file.hash.slice(0, 16)}.part`);
  const hash = await filled(part, file, source, options).catch(async (failure: unknown) => {
    if ((await sizeOf(part)) === 0) await rm(part, { force: true });
    throw failure;
  });
  if ((await sizeOf(part)) !== file.size || hash.digest("hex") !== file.hash) throw await wrong(part, file);
  await rename(part, target);
  await flush(directory);
  return false;
}

async function wrong(part: string, { file, algorithm }: Promised): Promise<DownloadError> {
  await rm(part, { force: true });
  return new DownloadError(
    `what came as ${file} does not have the ${algorithm === "sha256" ? "SHA-256" : "SHA-1"} that the server lists for it`,
    "it was removed: fetch it again, and over another network if it happens again",
  );
}

/** Appends to the part until it has all bytes; their hash. */
async function filled(part: string, file: Promised, source: Source, { attempts, onBytes }: FileOptions): Promise<Hash> {
  let [done, hash] = [(await sizeOf(part)) ?? 0, await hashOf(part, file)];
  if (done > file.size) throw await wrong(part, file);
  for (let idle = 0; ;) {
    const { failure, gained } = await appended(part, file, { source, hash, from: done, onBytes });
    done += gained;
    if (done === file.size && failure === undefined) return hash;
    if (failure instanceof NotContinuedError) {
      await rm(part, { force: true });
      [done, hash] = [0, await hashOf(part, file)];
    } else if (failure instanceof DownloadError) throw failure;
    idle = gained > 0 && !(failure instanceof NotContinuedError) ? 0 : idle + 1;
    if (idle >= attempts) throw cut(file, done);
  }
}

const cut = ({ file, size }: Promised, done: number): DownloadError =>
  new DownloadError(
    `the connection was cut at byte ${done} of the ${size} of ${file}`,
    "run it again: it goes on from there",
  );

interface Appending {
  readonly source: Source;
  readonly hash: Hash;
  readonly from: number;
  readonly onBytes: (done: number) => void;
}

/** Bytes that were written, and what went wrong, if anything did. Bytes beyond the size are not written. */
async function appended(
  part: string,
  { size, file }: Promised,
  { source, hash, from, onBytes }: Appending,
): Promise<{ readonly gained: number; readonly failure?: unknown }> {
  const handle = await open(part, "a").catch((error: unknown) => Promise.reject(unwritable(file, error)));
  let gained = 0;
  try {
    if (from === size) return { gained };
    for await (const bytes of source(from)) {
      if (from + gained + bytes.length > size) {
        return { gained, failure: new NotContinuedError(`more than ${size} bytes came as ${file}`, "fetch it anew") };
      }
      await handle.appendFile(bytes).catch((error: unknown) => Promise.reject(unwritable(file, error)));
      hash.update(bytes);
      gained += bytes.length;
      onBytes(from + gained);
    }
    return { gained };
  } catch (failure) {
    return { gained, failure };
  } finally {
    await handle.sync().catch(() => undefined);
    await handle.close();
  }
}

/** Not the server's fault: trying again would not help. */
function unwritable(file: string, cause: unknown): DownloadError {
  const code = (cause as NodeJS.ErrnoException).code ?? "unknown";
  const remedy =
    code === "ENOSPC" ? "the disk is full: free some space; what was fetched is kept" : "check the directory";
  return new DownloadError(`cannot write ${file}: ${code}`, remedy, { cause });
}

/** The hash of what a file holds so far; that of nothing where there is none. */
async function hashOf(path: string, { algorithm, size }: Promised): Promise<Hash> {
  const hash = createHash(algorithm === "sha256" ? "sha256" : "sha1");
  if (algorithm === "git-sha1") hash.update(`blob ${size}\0`);
  if ((await sizeOf(path)) === undefined) return hash;
  for await (const bytes of createReadStream(path)) hash.update(bytes as Uint8Array);
  return hash;
}

async function sizeOf(path: string): Promise<number | undefined> {
  const stats = await stat(path).catch(() => undefined);
  return stats?.isFile() === true ? stats.size : undefined;
}

/** Makes the rename last through a power cut, where the platform can. */
async function flush(directory: string): Promise<void> {
  const handle = await open(directory).catch(() => undefined);
  await handle?.sync().catch(() => undefined);
  await handle?.close();
}
