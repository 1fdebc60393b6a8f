import { createHash } from "node:crypto";
import { createReadStream, existsSync } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { Study } from "./file";
import { RECORD_FILE } from "./record";
import type { Fingerprints } from "./record";

/** Files above this size are known by their size alone, since every worker of a study reads all of the others. */
const MOST_BYTES_READ = 1 << 28;

/**
 * What the model and the data of a study contain, so that results of a changed model or of changed data are not mixed with others. Paths
 * begin as in the study's file.
 * @param passedOver files and folders that may lie beside the data and are not read: the study's file and its results.
 */
export async function fingerprintsOf(study: Study, passedOver: readonly string[]): Promise<Fingerprints> {
  const isRead = (path: string): boolean =>
    !passedOver.some((other) => resolve(other) === resolve(path)) && !existsSync(join(path, RECORD_FILE));
  const digests: Record<string, string> = {};
  for (const path of new Set([study.model, ...study.tasks.map(({ data }) => data)])) {
    const whole = study.resolve(path);
    if ((await stat(whole)).isDirectory()) {
      for (const name of await namesIn(whole, isRead))
        digests[join(path, name)] = await digestOf(join(whole, name), isRead);
    } else digests[path] = await digestOf(whole, isRead);
  }
  return digests;
}

const namesIn = async (folder: string, isRead: (path: string) => boolean): Promise<string[]> =>
  (await readdir(folder)).filter((name) => isRead(join(folder, name))).sort();

/** SHA-256 of a file's content, or of the names and contents in a folder. Of broken links, pipes and the like only the names count. */
async function digestOf(path: string, isRead: (path: string) => boolean): Promise<string> {
  const stats = await stat(path).catch(() => undefined);
  const hash = createHash("sha256");
  if (stats?.isDirectory()) {
    for (const name of await namesIn(path, isRead)) {
      hash.update(`${name}\n${await digestOf(join(path, name), isRead)}\n`);
    }
  } else if (stats?.isFile() && stats.size > MOST_BYTES_READ) {
    hash.update(`${stats.size} bytes`);
  } else if (stats?.isFile()) {
    // A stream without an encoding yields buffers.
    for await (const part of createReadStream(path)) hash.update(part as Uint8Array);
  }
  return hash.digest("hex");
}
