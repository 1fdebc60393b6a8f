import { ConfigError, FileFormatError } from "../base/errors";
import { checkFileName, checkRange, missingFile } from "./directory";
import type { Directory } from "./directory";

/** Files of at most this many bytes are fetched once and kept; of larger ones, only what is read. */
const WHOLE_BYTES = 64 * 2 ** 20;

export interface FetchProgress {
  readonly file: string;
  /** Bytes of the file that have arrived, and all of them where the server tells. */
  readonly loaded: number;
  readonly total: number | undefined;
}

export interface FetchDirectoryOptions {
  /** Called for every piece that arrives. */
  readonly onProgress?: (progress: FetchProgress) => void;
  /** Headers, credentials, an abort signal: goes with every request. */
  readonly request?: Omit<RequestInit, "method" | "body">;
  /** Default: the platform's. */
  readonly fetch?: typeof globalThis.fetch;
}

/** What is known of a file behind a server. */
interface Found {
  readonly size: number;
  /** ETag or date: other ranges must be of the same file. */
  readonly version: string | undefined;
}

/**
 * The files below an address, for reading: what `loadModel`, `loadTokenizer` and `loadAdapter` take in browsers. Large files
 * are read in ranges, as far as the server can (Hugging Face's and static servers do), so no whole checkpoint lies in
 * memory; small ones are kept for as long as the directory is. Throws FileFormatError for what cannot be fetched.
 */
export function fetchDirectory(url: string | URL, options: FetchDirectoryOptions = {}): Directory {
  const base = baseOf(url);
  const remote = new Remote(base, options);
  const refuse = (): Promise<never> => Promise.reject(readOnly(base.href));
  return {
    name: base.href,
    list: () => Promise.resolve(remote.known()),
    size: async (file) => (await remote.find(file))?.size,
    read: (file, start, end) => remote.read(file, start, end),
    write: refuse,
    writeTogether: refuse,
  };
}

function baseOf(url: string | URL): URL {
  const page = (globalThis as { location?: { href: string } }).location?.href;
  try {
    const { origin, pathname } = new URL(url, page);
    return new URL(pathname.endsWith("/") ? pathname : `${pathname}/`, origin);
  } catch (cause) {
    const remedy = "Pass one that begins with https://, or in a page one relative to it.";
    throw new ConfigError(`${JSON.stringify(String(url))} is no address of a directory.`, remedy, { cause });
  }
}

/** Files below an address, as far as they were asked for. */
class Remote {
  readonly #found = new Map<string, Promise<Found | undefined>>();
  readonly #whole = new Map<string, Promise<Uint8Array>>();
  readonly #loaded = new Map<string, number>();
  readonly #names = new Set<string>();

  constructor(
    private readonly base: URL,
    private readonly options: FetchDirectoryOptions,
  ) {}

  /** A server does not list its files: those that were there when asked for. */
  known(): string[] {
    return [...this.#names].sort();
  }

  find(file: string): Promise<Found | undefined> {
    return remember(this.#found, file, () => this.#look(file));
  }

  async read(file: string, start = 0, end?: number): Promise<Uint8Array> {
    const found = await this.find(file);
    if (!found) throw missingFile(file, this.base.href, this.known());
    const to = end ?? found.size;
    checkRange(file, this.base.href, found.size, start, to);
    if (start === to) return new Uint8Array();
    if (found.size > WHOLE_BYTES && !this.#whole.has(file)) {
      const part = await this.#part(file, found, start, to);
      if (part) return part;
    }
    const whole = await this.#all(file);
    if (whole.length !== found.size) throw this.#wrongLength(file, found.size, whole.length);
    return whole.slice(start, to);
  }

  async #look(file: string): Promise<Found | undefined> {
    checkFileName(file, this.base.href);
    const response = await this.#request(file, "HEAD");
    if (isAbsent(response, file)) return undefined;
    const noHead = response.status === 405 || response.status === 501;
    if (!noHead) this.#checkStatus(response, file);
    this.#names.add(file);
    const told = noHead ? undefined : lengthOf(response);
    // What a server tells of a small file may be of its compressed form: the bytes themselves say it.
    const size = told !== undefined && told > WHOLE_BYTES ? told : (await this.#all(file)).length;
    return { size, version: versionOf(response) };
  }

  #all(file: string): Promise<Uint8Array> {
    return remember(this.#whole, file, async () => {
      const response = await this.#request(file, "GET");
      if (isAbsent(response, file)) throw missingFile(file, this.base.href, this.known());
      this.#checkStatus(response, file);
      this.#loaded.set(file, 0);
      const told = lengthOf(response);
      const bytes = await this.#body(response, file, told, told ?? Infinity);
      if (told !== undefined && bytes.length !== told) throw this.#wrongLength(file, told, bytes.length);
      return bytes;
    });
  }

  /** Bytes [start, end), or undefined where the server gives whole files only. */
  async #part(file: string, { size, version }: Found, start: number, end: number): Promise<Uint8Array | undefined> {
    const response = await this.#request(file, "GET", `bytes=${start}-${end - 1}`);
    this.#checkStatus(response, file);
    const now = versionOf(response);
    if (version !== undefined && now !== undefined && now !== version) {
      await response.body?.cancel();
      throw new FileFormatError(`${file} in ${this.base.href} changed while it was read`, "load it again");
    }
    if (response.status !== 206) {
      await response.body?.cancel();
      return undefined;
    }
    const bytes = await this.#body(response, file, size, end - start);
    if (bytes.length !== end - start) throw this.#wrongLength(file, end - start, bytes.length);
    return bytes;
  }

  /** What arrives, in memory for what has arrived; no more than `limit` bytes. */
  async #body(response: Response, file: string, total: number | undefined, limit: number): Promise<Uint8Array> {
    const pieces: Uint8Array[] = [];
    let count = 0;
    const before = this.#loaded.get(file) ?? 0;
    const reader = response.body?.getReader();
    for (;;) {
      const { done, value } = (await this.#explained(file, async () => reader?.read())) ?? { done: true };
      if (done) break;
      count += value.length;
      if (count > limit) {
        await reader?.cancel();
        throw this.#wrongLength(file, limit, count);
      }
      pieces.push(value);
      const loaded = Math.min(before + count, total ?? Infinity);
      this.#loaded.set(file, loaded);
      this.options.onProgress?.({ file, loaded, total });
    }
    const bytes = new Uint8Array(count);
    pieces.reduce((at, piece) => (bytes.set(piece, at), at + piece.length), 0);
    return bytes;
  }

  async #request(file: string, method: string, range?: string): Promise<Response> {
    const { request = {}, fetch = globalThis.fetch } = this.options;
    const headers = new Headers(request.headers);
    if (range) headers.set("range", range);
    const address = new URL(encodeURIComponent(file), this.base);
    return this.#explained(file, () => fetch(address, { ...request, method, headers }));
  }

  async #explained<T>(file: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (cause) {
      if (this.options.request?.signal?.aborted) throw cause;
      const remedy = "check the address, the network and, for another server, that it allows this page (CORS)";
      throw new FileFormatError(`cannot fetch ${file} from ${this.base.href}: ${String(cause)}`, remedy, { cause });
    }
  }

  #checkStatus({ ok, status }: Response, file: string): void {
    if (ok) return;
    const remedy =
      status === 401 || status === 403 ? "pass what allows it in `request`" : "ask again later, or check the address";
    throw new FileFormatError(`the server answers ${status} to ${file} in ${this.base.href}`, remedy);
  }

  #wrongLength(file: string, wanted: number, found: number): FileFormatError {
    return new FileFormatError(
      `${file} in ${this.base.href} came with ${found} bytes where ${wanted} were due`,
      "the transfer broke off, or the file changed: load it again",
    );
  }
}

/** A page where a file was asked for is how servers of single-page applications say that there is none. */
function isAbsent({ status, headers }: Response, file: string): boolean {
  const isPage = headers.get("content-type")?.startsWith("text/html") === true && !/\.html?$/.test(file);
  return status === 404 || status === 410 || (status === 200 && isPage);
}

/** Bytes that the body has: unknown where it is compressed on its way, which other servers may not let a page see. */
function lengthOf({ headers, type }: Response): number | undefined {
  const told = headers.get("content-length");
  if (told === null || !/^\d{1,15}$/.test(told)) return undefined;
  const isEncoded = (headers.get("content-encoding") ?? "identity") !== "identity";
  if (isEncoded || (type === "cors" && Number(told) <= WHOLE_BYTES)) return undefined;
  return Number(told);
}

const versionOf = ({ headers }: Response): string | undefined =>
  headers.get("etag") ?? headers.get("last-modified") ?? undefined;

/** Work that is done once a name; a failure is not kept. */
function remember<T>(kept: Map<string, Promise<T>>, name: string, work: () => Promise<T>): Promise<T> {
  const found = kept.get(name);
  if (found) return found;
  const started = work();
  kept.set(name, started);
  started.catch(() => kept.delete(name));
  return started;
}

const readOnly = (name: string): FileFormatError =>
  new FileFormatError(
    `${name} is behind a server and cannot be written`,
    "write into memoryDirectory(), and offer its files as downloads",
  );
