import type { TuningCache } from "./cache";

const STORE = "tuning";

/** A cache in the browser's IndexedDB; undefined where there is none. */
export function indexedDbTuningCache(name = "safetape"): TuningCache | undefined {
  // TypeScript declares the global of browsers, which Node does not have.
  const factory = (globalThis as { indexedDB?: IDBFactory }).indexedDB;
  if (!factory) return undefined;
  const transact = async <T>(mode: IDBTransactionMode, query: (store: IDBObjectStore) => IDBRequest<T>): Promise<T> => {
    const database = await openDatabase(factory, name);
    try {
      return await result(query(database.transaction(STORE, mode).objectStore(STORE)));
    } finally {
      database.close();
    }
  };
  return {
    load: (key) => transact<unknown>("readonly", (store) => store.get(key)),
    async save(key, record) {
      await transact("readwrite", (store) => store.put(record, key));
    },
  };
}

function openDatabase(factory: IDBFactory, name: string): Promise<IDBDatabase> {
  const request = factory.open(name, 1);
  request.onupgradeneeded = () => void request.result.createObjectStore(STORE);
  return result(request);
}

function result<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error("An IndexedDB request failed."));
  });
}
