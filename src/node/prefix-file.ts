import { closeSync, ftruncate, openSync, read, rmSync, write } from "node:fs";
import { promisify } from "node:util";
import { FileFormatError } from "../base/errors";
import type { PrefixStore } from "../train/options";
import { errorCode, pathOf } from "./directory";

const [readAt, writeAt, truncate] = [promisify(read), promisify(write), promisify(ftruncate)];

/**
 * Stores the rows of a prefix cache in a file, for caches that do not fit into memory. The file is created with the first
 * row, overwriting an existing one; it is emptied when the prefix changes, and removed when the store is disposed of.
 * @param place its path, or a `file:` address.
 * @throws FileFormatError with the first row, if the file cannot be created.
 */
export function filePrefixStore(place: string | URL): PrefixStore {
  const path = pathOf(place);
  const rows = new Map<string, { readonly offset: number; readonly bytes: number }>();
  let descriptor: number | undefined;
  let end = 0;
  const opened = (): number => (descriptor ??= createFile(path));
  return {
    get bytes() {
      return end;
    },
    has: (key) => rows.has(key),
    async get(key) {
      const row = rows.get(key);
      return row && readFully(opened(), row.offset, row.bytes, path);
    },
    async set(key, row) {
      const offset = end;
      end += row.byteLength;
      await writeFully(opened(), row, offset);
      rows.set(key, { offset, bytes: row.byteLength });
    },
    async clear() {
      rows.clear();
      end = 0;
      if (descriptor !== undefined) await truncate(descriptor, 0);
    },
    dispose() {
      if (descriptor === undefined) return;
      closeSync(descriptor);
      rmSync(path, { force: true });
      descriptor = undefined;
      rows.clear();
      end = 0;
    },
  };
}

function createFile(path: string): number {
  try {
    return openSync(path, "w+");
  } catch (cause) {
    throw new FileFormatError(`cannot create the file ${path}: ${errorCode(cause)}`, "give another path", { cause });
  }
}

async function readFully(descriptor: number, offset: number, bytes: number, path: string): Promise<Uint8Array> {
  const row = new Uint8Array(bytes);
  for (let done = 0; done < bytes;) {
    const { bytesRead } = await readAt(descriptor, row, done, bytes - done, offset + done);
    if (bytesRead === 0) {
      throw new FileFormatError(`${path} was truncated`, "do not change the file while it is in use");
    }
    done += bytesRead;
  }
  return row;
}

async function writeFully(descriptor: number, row: Uint8Array, offset: number): Promise<void> {
  for (let done = 0; done < row.byteLength;) {
    done += (await writeAt(descriptor, row, done, row.byteLength - done, offset + done)).bytesWritten;
  }
}
