import { setTimeout as pause } from "node:timers/promises";
import type * as HubClient from "@huggingface/hub";
import { ConfigError, DownloadError, SafetapeError } from "../base/errors";
import { INDEX_FILE, readShards } from "../io/checkpoint";
import { checkFileName } from "../io/directory";
import { openDirectory } from "./directory";
import { expectedFile, filesToDownload } from "./hub/choose";
import type { ExpectedFile, ListedFile } from "./hub/choose";
import { fetchFile } from "./hub/file";
import { HubFetch } from "./hub/fetch";
import type { RetryOptions } from "./hub/fetch";

export interface DownloadOptions extends RetryOptions {
  /** Branch, tag or commit. Default "main". */
  readonly revision?: string;
  /** Access token. It is sent to the Hub only, and never appears in an error message. Default: none. */
  readonly token?: string;
  /** Address of another server with the Hub's interface. Default: the Hugging Face Hub. */
  readonly hubUrl?: string;
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

type Hub = typeof HubClient;

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

/** @throws ConfigError for a wrong name or revision, or for a token that is malformed or would be sent unencrypted. */
function checkRequest(repo: string, { token, hubUrl, revision = "main" }: DownloadOptions): void {
  if (!/^[\w-][\w.-]*\/[\w-][\w.-]*$/.test(repo)) {
    throw new ConfigError(`${JSON.stringify(repo.slice(0, 100))} is not the name of a model`, "give it as OWNER/NAME");
  }
  if (!/^[\w-][\w./-]*$/.test(revision) || revision.includes("..")) {
    throw new ConfigError(
      `${JSON.stringify(revision.slice(0, 100))} is not a revision`,
      "give a branch, a tag or a commit",
    );
  }
  if (token !== undefined && !/^hf_\w+$/.test(token)) {
    throw new ConfigError("the token is not one of the Hub's", "tokens begin with hf_ and have no spaces");
  }
  const { protocol, hostname } = hubUrl === undefined ? { protocol: "https:", hostname: "" } : parseUrl(hubUrl);
  if (token === undefined || protocol === "https:" || ["127.0.0.1", "localhost", "[::1]"].includes(hostname)) return;
  throw new ConfigError("the token would be sent without encryption", "use an https address for HF_ENDPOINT");
}

function parseUrl(url: string): URL {
  if (URL.canParse(url) && /^https?:/.test(url)) return new URL(url);
  throw new ConfigError("the address of the Hub is not an http or https address", "check HF_ENDPOINT");
}

async function loadClient(): Promise<Hub> {
  try {
    return await import("@huggingface/hub");
  } catch (cause) {
    throw new DownloadError(
      "the npm package `@huggingface/hub`, the Hub's client, cannot be loaded",
      "run `npm install @huggingface/hub`",
      { cause },
    );
  }
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

  get #access(): { fetch: typeof fetch; hubUrl?: string; accessToken?: string } {
    const { hubUrl, token } = this.options;
    return {
      fetch: this.#http.fetch,
      ...(hubUrl !== undefined && { hubUrl: hubUrl.replace(/\/+$/, "") }),
      ...(token !== undefined && { accessToken: token }),
    };
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
