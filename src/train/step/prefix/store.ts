import type { PrefixStore } from "../../options";

/** Stores rows in host memory. */
export function memoryPrefixStore(): PrefixStore {
  const rows = new Map<string, Uint8Array>();
  let bytes = 0;
  const clear = (): void => {
    rows.clear();
    bytes = 0;
  };
  return {
    get bytes() {
      return bytes;
    },
    has: (key) => rows.has(key),
    get: (key) => Promise.resolve(rows.get(key)),
    set(key, row) {
      bytes += row.byteLength - (rows.get(key)?.byteLength ?? 0);
      rows.set(key, row);
      return Promise.resolve();
    },
    clear() {
      clear();
      return Promise.resolve();
    },
    dispose: clear,
  };
}
