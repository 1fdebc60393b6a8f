/** Where a prefix cache keeps its rows, each under a key of its own. */
export interface PrefixStore {
  /** Bytes that its rows take. */
  readonly bytes: number;
  get(key: string): Promise<Uint8Array | undefined>;
  set(key: string, row: Uint8Array): Promise<void>;
  has(key: string): boolean;
  /** Forgets all rows. */
  clear(): Promise<void>;
  /** Gives everything back; nothing is called afterwards. */
  dispose(): void;
}

/** Rows in the host's memory. */
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
