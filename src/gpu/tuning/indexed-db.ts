import type { TuningCache } from "./cache";

const STORE = "tuning";

/** Choices in the browser's IndexedDB; undefined where there is none. */
export function indexedDbTuningCache(name = "safetape"): TuningCache | undefined {
  const factory = (globalThis as { indexedDB?: IDBFactory }).indexedDB;
  if (!factory) return undefined;
  const within = async <T>(mode: IDBTransactionMode, ask: (store: IDBObjectStore) => IDBRequest<T>): Promise<T> => {
    const database = await openDatabase(factory, name);
    try {
      return await answered(ask(database.transaction(STORE, mode).objectStore(STORE)));
    } finally {
      database.close();
    }
  };
  return {
    load: (key) => within<unknown>("readonly", (store) => store.get(key)),
    async save(key, record) {
      await within("readwrite", (store) => store.put(record, key));
    },
  };
}

function openDatabase(factory: IDBFactory, name: string): Promise<IDBDatabase> {
  const request = factory.open(name, 1);
  request.onupgradeneeded = () => void request.result.createObjectStore(STORE);
  return answered(request);
}

function answered<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error("IndexedDB gave no answer."));
  });
}
