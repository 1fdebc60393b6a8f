import { closeSync, ftruncate, openSync, read, rmSync, write } from "node:fs";
import { promisify } from "node:util";
import { FileFormatError } from "../base/errors";
import type { PrefixStore } from "../train/options";

const [readAt, writeAt, truncate] = [promisify(read), promisify(write), promisify(ftruncate)];

/**
 * A prefix cache's rows in a file of their own, one behind the other, for more of them than memory holds. The file is made
 * when the first row comes, emptied when the prefix changes, and removed at the end; what was in it is overwritten.
 * @throws FileFormatError, when the first row comes, where the file cannot be made.
 */
export function filePrefixStore(path: string): PrefixStore {
  const rows = new Map<string, { readonly at: number; readonly bytes: number }>();
  let file: number | undefined;
  let end = 0;
  const opened = (): number => (file ??= openFile(path));
  return {
    get bytes() {
      return end;
    },
    has: (key) => rows.has(key),
    async get(key) {
      const place = rows.get(key);
      return place && readWhole(opened(), place.at, place.bytes, path);
    },
    async set(key, row) {
      const at = end;
      end += row.byteLength;
      await writeWhole(opened(), row, at);
      rows.set(key, { at, bytes: row.byteLength });
    },
    async clear() {
      rows.clear();
      end = 0;
      if (file !== undefined) await truncate(file, 0);
    },
    dispose() {
      if (file === undefined) return;
      closeSync(file);
      rmSync(path, { force: true });
      file = undefined;
      rows.clear();
      end = 0;
    },
  };
}

function openFile(path: string): number {
  try {
    return openSync(path, "w+");
  } catch (error) {
    throw new FileFormatError(`cannot make the file ${path}: ${(error as Error).message}`, "give another path");
  }
}

async function readWhole(file: number, at: number, bytes: number, path: string): Promise<Uint8Array> {
  const row = new Uint8Array(bytes);
  for (let done = 0; done < bytes;) {
    const { bytesRead } = await readAt(file, row, done, bytes - done, at + done);
    if (bytesRead === 0) throw new FileFormatError(`${path} was cut short`, "leave the file alone while it is in use");
    done += bytesRead;
  }
  return row;
}

async function writeWhole(file: number, row: Uint8Array, at: number): Promise<void> {
  for (let done = 0; done < row.byteLength;) {
    done += (await writeAt(file, row, done, row.byteLength - done, at + done)).bytesWritten;
  }
}
