import { setTimeout as pause } from "node:timers/promises";
import { DownloadError, SafetapeError } from "../base/errors";
import { INDEX_FILE, readShards } from "../io/checkpoint";
import { checkFileName } from "../io/directory";
import { openDirectory } from "./directory";
import { expectedFile, filesToDownload } from "./hub/choose";
import type { ExpectedFile, ListedFile } from "./hub/choose";
import { accessOf, checkRequest, loadClient } from "./hub/client";
import type { Hub, HubAccess } from "./hub/client";
import { fetchFile } from "./hub/file";
import { HubFetch } from "./hub/fetch";
import type { RetryOptions } from "./hub/fetch";

export interface DownloadOptions extends RetryOptions, HubAccess {
  /** Branch, tag or commit. Default "main". */
  readonly revision?: string;
  /** Called as bytes arrive: bytes of `file` that are `done`, of `size`. */
  readonly onProgress?: (progress: { readonly file: string; readonly done: number; readonly size: number }) => void;
}

/** A model or an adapter that was downloaded. */
export interface Download {
  /** The commit of all files. */
  readonly commit: string;
  readonly files: readonly string[];
  /** Bytes of all files. */
  readonly bytes: number;
  /** Bytes of the files that were not in the directory before. */
  readonly fetchedBytes: number;
}

/**
 * Downloads the files of a model or an adapter that safetape reads from the Hugging Face Hub into a directory:
 * configuration, safetensors, tokenizer and preprocessor. A file appears under its name only once it has the size and the
 * hash that the Hub lists. A later call continues an interrupted file.
 * @throws ConfigError for a wrong name, revision or token; DownloadError if a file cannot be downloaded; FileFormatError
 * for a directory that cannot be used.
 */
export async function downloadModel(
  repo: string,
  path: string | URL,
  options: DownloadOptions = {},
): Promise<Download> {
  checkRequest(repo, options);
  const hub = await loadClient();
  const directory = await openDirectory(path, { create: true });
  const repository = new Repository(hub, repo, options);
  return repository.explained(async () => {
    const commit = await repository.resolveCommit();
    const listed = await repository.list();
    const files = filesToDownload(listed, repository.title);
    let fetchedBytes = 0;
    const fetchAll = async (expected: readonly ExpectedFile[]): Promise<void> => {
      for (const file of expected) if (await repository.fetch(directory.name, file)) fetchedBytes += file.size;
    };
    await fetchAll(files);
    if (files.some(({ file }) => file === INDEX_FILE)) {
      const shards = (await readShards(directory)).map((shard) => expectedFile(listed, shard, repository.title));
      await fetchAll(shards);
      files.push(...shards);
    }
    const bytes = files.reduce((sum, { size }) => sum + size, 0);
    return { commit, files: files.map(({ file }) => file), bytes, fetchedBytes };
  });
}

/** A repository on the Hub, at one commit. */
class Repository {
  /** Its name in error messages. */
  readonly title: string;
  readonly #http: HubFetch;
  #commit = "";

  constructor(
    private readonly hub: Hub,
    private readonly repo: string,
    private readonly options: DownloadOptions,
  ) {
    this.title = `the model ${repo}`;
    this.#http = new HubFetch(this.title, options);
  }

  get #access() {
    return { fetch: this.#http.fetch, ...accessOf(this.options) };
  }

  /** Runs an action. An error of the client becomes a DownloadError without addresses or tokens. */
  async explained<T>(action: () => Promise<T>): Promise<T> {
    try {
      return await action();
    } catch (error) {
      if (error instanceof SafetapeError) throw error;
      const failure = this.#http.takeFailure();
      if (failure) throw failure;
      throw new DownloadError(`the server of ${this.title} did not answer as the Hub does`, "check HF_ENDPOINT");
    }
  }

  /** Resolves the revision to a commit, because a branch may move during the download. */
  async resolveCommit(): Promise<string> {
    const { revision = "main" } = this.options;
    const { sha } = await this.hub.modelInfo({ name: this.repo, revision, additionalFields: ["sha"], ...this.#access });
    if (typeof sha !== "string" || !/^[0-9a-f]{40}$/.test(sha)) {
      throw new DownloadError(`the server of ${this.title} names no commit of ${revision}`, "check HF_ENDPOINT");
    }
    return (this.#commit = sha);
  }

  async list(): Promise<ListedFile[]> {
    const files: ListedFile[] = [];
    for await (const entry of this.hub.listFiles({ repo: this.repo, revision: this.#commit, ...this.#access })) {
      if (entry.type === "file" && typeof entry.path === "string") files.push(entry);
    }
    return files;
  }

  /** Downloads a file into the directory at `path`; false if it was there already. */
  async fetch(path: string, file: ExpectedFile): Promise<boolean> {
    checkFileName(file.file, path);
    const { attempts = 5, onProgress } = this.options;
    const onBytes = (done: number): void => onProgress?.({ file: file.file, done, size: file.size });
    return fetchFile(path, file, (start) => this.#bytes(file, start), { attempts, onBytes });
  }

  async *#bytes(file: ExpectedFile, start: number): AsyncGenerator<Uint8Array, void, undefined> {
    if (file.size === 0) return;
    const request = { repo: this.repo, path: file.file, revision: this.#commit, xet: false, ...this.#access };
    const blob = await this.hub.downloadFile(request);
    if (blob?.size !== file.size) {
      const size = blob === null ? "none" : blob.size;
      throw new DownloadError(
        `${this.title} lists ${file.file} with ${file.size} bytes, but has ${size}`,
        "try again later",
      );
    }
    this.#http.takeFailure();
    const reader = blob.slice(start, file.size).stream().getReader();
    try {
      for (;;) {
        const { done, value } = await this.#chunk(reader);
        if (done) return;
        yield value;
      }
    } catch (error) {
      throw this.#http.takeFailure() ?? error;
    } finally {
      await reader.cancel().catch(() => undefined);
    }
  }

  /** The next bytes. @throws Error if none arrive in time: the file is then requested again. */
  async #chunk(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<ReadableStreamReadResult<Uint8Array>> {
    const stop = new AbortController();
    const { silence = 60_000 } = this.options;
    const timeout = pause(silence, undefined, { signal: stop.signal }).then(() => {
      throw new Error("no bytes arrived");
    });
    timeout.catch(() => undefined);
    try {
      return await Promise.race([reader.read(), timeout]);
    } finally {
      stop.abort();
    }
  }
}
