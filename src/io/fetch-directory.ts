import { ConfigError, FileFormatError } from "../base/errors";
import { checkFileName, checkRange, missingFile } from "./directory";
import type { Directory } from "./directory";

/** Files up to this size are fetched once, completely, and cached. Of larger files only the ranges that are read. */
const CACHED_BYTES = 64 * 2 ** 20;

/** Progress of a file that is being fetched. */
export interface FetchProgress {
  readonly file: string;
  /** Bytes that have arrived. */
  readonly loaded: number;
  /** Size of the file in bytes; undefined if the server does not state it. */
  readonly total: number | undefined;
}

export interface FetchDirectoryOptions {
  /** Called whenever a piece of a file has arrived. */
  readonly onProgress?: (progress: FetchProgress) => void;
  /** Headers, credentials, an abort signal: used for every request. */
  readonly request?: Omit<RequestInit, "method" | "body">;
  /** Default the platform's. */
  readonly fetch?: typeof globalThis.fetch;
}

/** A file on a server. */
interface RemoteFile {
  /** In bytes. */
  readonly size: number;
  /** ETag or date, by which a change between two requests is detected; undefined if the server sends neither. */
  readonly version: string | undefined;
}

/**
 * A read-only directory of the files below an address, for `loadModel`, `loadTokenizer` and `loadAdapter` in browsers. Large
 * files are read in ranges if the server supports it (Hugging Face's and static servers do), so that a checkpoint need not
 * fit in memory. Small files are cached as long as the directory exists. Its methods throw FileFormatError if a file cannot
 * be fetched.
 * @throws ConfigError for an invalid address.
 */
export function fetchDirectory(url: string | URL, options: FetchDirectoryOptions = {}): Directory {
  const base = baseOf(url);
  const remote = new Remote(base, options);
  const refuse = (): Promise<never> => {
    const remedy = "Write into memoryDirectory(), and offer its files as downloads.";
    return Promise.reject(new FileFormatError(`${base.href} is on a server and cannot be written.`, remedy));
  };
  return {
    name: base.href,
    list: () => Promise.resolve(remote.seenFiles()),
    size: async (file) => (await remote.find(file))?.size,
    read: (file, start, end) => remote.read(file, start, end),
    write: refuse,
    writeTogether: refuse,
  };
}

function baseOf(url: string | URL): URL {
  // Only pages have a location, and this file is compiled without the DOM's types.
  const page = (globalThis as { location?: { href: string } }).location?.href;
  try {
    const { origin, pathname } = new URL(url, page);
    return new URL(pathname.endsWith("/") ? pathname : `${pathname}/`, origin);
  } catch (cause) {
    const remedy = "Pass an address that begins with https://, or in a page one that is relative to the page.";
    throw new ConfigError(`${JSON.stringify(String(url))} is not the address of a directory.`, remedy, { cause });
  }
}

/** Fetches files below an address, each or each range of it when it is first read. */
class Remote {
  readonly #files = new Map<string, Promise<RemoteFile | undefined>>();
  readonly #contents = new Map<string, Promise<Uint8Array>>();
  /** Bytes that have arrived, by file. */
  readonly #loaded = new Map<string, number>();
  readonly #names = new Set<string>();

  constructor(
    private readonly base: URL,
    private readonly options: FetchDirectoryOptions,
  ) {}

  /** Names of files that are known to exist because they were read. (Servers do not list their files.) */
  seenFiles(): string[] {
    return [...this.#names].sort();
  }

  find(file: string): Promise<RemoteFile | undefined> {
    return once(this.#files, file, () => this.#describe(file));
  }

  async read(file: string, start = 0, end?: number): Promise<Uint8Array> {
    const remote = await this.find(file);
    if (!remote) throw missingFile(file, this.base.href, this.seenFiles());
    const stop = end ?? remote.size;
    checkRange(file, this.base.href, remote.size, start, stop);
    if (start === stop) return new Uint8Array();
    if (remote.size > CACHED_BYTES && !this.#contents.has(file)) {
      const range = await this.#fetchRange(file, remote, start, stop);
      if (range) return range;
    }
    const bytes = await this.#fetchAll(file);
    if (bytes.length !== remote.size) throw this.#wrongLength(file, remote.size, bytes.length);
    return bytes.slice(start, stop);
  }

  async #describe(file: string): Promise<RemoteFile | undefined> {
    checkFileName(file, this.base.href);
    const response = await this.#request(file, "HEAD");
    if (isAbsent(response, file)) return undefined;
    const supportsHead = response.status !== 405 && response.status !== 501;
    if (supportsHead) this.#checkStatus(response, file);
    this.#names.add(file);
    const stated = supportsHead ? lengthOf(response) : undefined;
    // The size that a server states for a small file may be that of its compressed form, so the file itself is fetched.
    const size = stated !== undefined && stated > CACHED_BYTES ? stated : (await this.#fetchAll(file)).length;
    return { size, version: versionOf(response) };
  }

  #fetchAll(file: string): Promise<Uint8Array> {
    return once(this.#contents, file, async () => {
      const response = await this.#request(file, "GET");
      if (isAbsent(response, file)) throw missingFile(file, this.base.href, this.seenFiles());
      this.#checkStatus(response, file);
      this.#loaded.set(file, 0);
      const stated = lengthOf(response);
      const bytes = await this.#readBody(response, file, stated, stated ?? Infinity);
      if (stated !== undefined && bytes.length !== stated) throw this.#wrongLength(file, stated, bytes.length);
      return bytes;
    });
  }

  /** Bytes [start, end), or undefined if the server does not support ranges. */
  async #fetchRange(
    file: string,
    { size, version }: RemoteFile,
    start: number,
    end: number,
  ): Promise<Uint8Array | undefined> {
    const response = await this.#request(file, "GET", `bytes=${start}-${end - 1}`);
    this.#checkStatus(response, file);
    const currentVersion = versionOf(response);
    if (version !== undefined && currentVersion !== undefined && currentVersion !== version) {
      await response.body?.cancel();
      throw new FileFormatError(`${file} in ${this.base.href} changed while it was read.`, "Load it again.");
    }
    if (response.status !== 206) {
      await response.body?.cancel();
      return undefined;
    }
    const bytes = await this.#readBody(response, file, size, end - start);
    if (bytes.length !== end - start) throw this.#wrongLength(file, end - start, bytes.length);
    return bytes;
  }

  /** Reads a response of at most `limit` bytes. Memory is allocated for bytes that have arrived, not for a stated size. */
  async #readBody(response: Response, file: string, total: number | undefined, limit: number): Promise<Uint8Array> {
    const pieces: Uint8Array[] = [];
    let count = 0;
    const loadedBefore = this.#loaded.get(file) ?? 0;
    const reader = response.body?.getReader();
    for (;;) {
      const { done, value } = (await this.#withRemedy(file, async () => reader?.read())) ?? { done: true };
      if (done) break;
      count += value.length;
      if (count > limit) {
        await reader?.cancel();
        throw this.#wrongLength(file, limit, count);
      }
      pieces.push(value);
      const loaded = Math.min(loadedBefore + count, total ?? Infinity);
      this.#loaded.set(file, loaded);
      this.options.onProgress?.({ file, loaded, total });
    }
    const bytes = new Uint8Array(count);
    pieces.reduce((offset, piece) => (bytes.set(piece, offset), offset + piece.length), 0);
    return bytes;
  }

  async #request(file: string, method: string, range?: string): Promise<Response> {
    const { request = {}, fetch = globalThis.fetch } = this.options;
    const headers = new Headers(request.headers);
    if (range) headers.set("range", range);
    const address = new URL(encodeURIComponent(file), this.base);
    return this.#withRemedy(file, () => fetch(address, { ...request, method, headers }));
  }

  async #withRemedy<T>(file: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (cause) {
      if (this.options.request?.signal?.aborted) throw cause;
      const remedy = "Check the address and the network, and that a server of another origin allows this page (CORS).";
      throw new FileFormatError(`${file} cannot be fetched from ${this.base.href}: ${String(cause)}.`, remedy, {
        cause,
      });
    }
  }

  #checkStatus({ ok, status }: Response, file: string): void {
    if (ok) return;
    const remedy =
      status === 401 || status === 403
        ? "Pass credentials in the option `request`."
        : "Try again later, or check the address.";
    throw new FileFormatError(`The server answers ${file} in ${this.base.href} with status ${status}.`, remedy);
  }

  #wrongLength(file: string, expected: number, actual: number): FileFormatError {
    return new FileFormatError(
      `${actual} bytes of ${file} in ${this.base.href} arrived; ${expected} were expected.`,
      "The transfer was interrupted, or the file changed: load it again.",
    );
  }
}

/** Whether a response means that a file does not exist. Servers of single-page applications answer with a page then. */
function isAbsent({ status, headers }: Response, file: string): boolean {
  const isPage = headers.get("content-type")?.startsWith("text/html") === true && !/\.html?$/.test(file);
  return status === 404 || status === 410 || (status === 200 && isPage);
}

/** Size of the body in bytes; undefined if it may be compressed. A page may not see the encoding on another origin. */
function lengthOf({ headers, type }: Response): number | undefined {
  const length = headers.get("content-length");
  if (length === null || !/^\d{1,15}$/.test(length)) return undefined;
  const isEncoded = (headers.get("content-encoding") ?? "identity") !== "identity";
  if (isEncoded || (type === "cors" && Number(length) <= CACHED_BYTES)) return undefined;
  return Number(length);
}

const versionOf = ({ headers }: Response): string | undefined =>
  headers.get("etag") ?? headers.get("last-modified") ?? undefined;

/** The result of `work` for a name, which is done once. A failure is not cached. */
function once<T>(cache: Map<string, Promise<T>>, name: string, work: () => Promise<T>): Promise<T> {
  const cached = cache.get(name);
  if (cached) return cached;
  const result = work();
  cache.set(name, result);
  result.catch(() => cache.delete(name));
  return result;
}
