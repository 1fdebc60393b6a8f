import type { TuningCache } from "./cache";

/** A cache in memory. It lasts as long as the program. */
export function memoryTuningCache(): TuningCache {
  const records = new Map<string, unknown>();
  return {
    load: (key) => Promise.resolve(records.get(key)),
    save(key, record) {
      records.set(key, record);
      return Promise.resolve();
    },
  };
}
