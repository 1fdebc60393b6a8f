import { setTimeout as pause } from "node:timers/promises";
import type * as HubClient from "@huggingface/hub";
import { ConfigError, DownloadError, SafetapeError } from "../base/errors";
import { INDEX_FILE, readShards } from "../io/checkpoint";
import { checkFileName } from "../io/directory";
import { openDirectory } from "./directory";
import { chosenFiles, promised } from "./hub/choose";
import type { Listed, Promised } from "./hub/choose";
import { fetchFile } from "./hub/file";
import { HubFetch } from "./hub/fetch";
import type { Patience } from "./hub/fetch";

export interface DownloadOptions extends Patience {
  /** Branch, tag or commit; default "main". */
  readonly revision?: string;
  /** Sent to the Hub alone, and never part of a message. Default none. */
  readonly token?: string;
  /** Another server with the Hub's interface. Default the Hub itself. */
  readonly hubUrl?: string;
  /** Called as bytes come. */
  readonly onProgress?: (progress: { readonly file: string; readonly done: number; readonly size: number }) => void;
}

export interface Downloaded {
  /** The commit that all files are of. */
  readonly commit: string;
  readonly files: readonly string[];
  /** Bytes of all files, and of those that were not there before. */
  readonly bytes: number;
  readonly fetchedBytes: number;
}

type Hub = typeof HubClient;

/**
 * Fetches what safetape reads of a model or an adapter on the Hugging Face Hub into a directory: configuration, safetensors,
 * tokenizer, preprocessor. Every file has the size and the hash that the Hub lists, or does not get its name; what was cut
 * off goes on where it stopped. @throws DownloadError; FileFormatError for a directory that cannot be used.
 */
export async function downloadModel(repo: string, path: string, options: DownloadOptions = {}): Promise<Downloaded> {
  checkRequest(repo, options);
  const hub = await loadClient();
  const directory = await openDirectory(path, { create: true });
  const remote = new Remote(hub, repo, options);
  return remote.told(async () => {
    const commit = await remote.commit();
    const listed = await remote.list();
    const files = chosenFiles(listed, remote.what);
    let fetchedBytes = 0;
    const fetchAll = async (wanted: readonly Promised[]): Promise<void> => {
      for (const file of wanted) if (!(await remote.fetch(directory.name, file))) fetchedBytes += file.size;
    };
    await fetchAll(files);
    if (files.some(({ file }) => file === INDEX_FILE)) {
      const shards = (await readShards(directory)).map((shard) => promised(listed, shard, remote.what));
      await fetchAll(shards);
      files.push(...shards);
    }
    const bytes = files.reduce((sum, { size }) => sum + size, 0);
    return { commit, files: files.map(({ file }) => file), bytes, fetchedBytes };
  });
}

/** @throws ConfigError for what is no name of a repository, or a token that would go unencrypted. */
function checkRequest(repo: string, { token, hubUrl, revision = "main" }: DownloadOptions): void {
  if (!/^[\w-][\w.-]*\/[\w-][\w.-]*$/.test(repo)) {
    throw new ConfigError(`${JSON.stringify(repo.slice(0, 100))} is no name of a model`, "give it as OWNER/NAME");
  }
  if (!/^[\w-][\w./-]*$/.test(revision) || revision.includes("..")) {
    throw new ConfigError(
      `${JSON.stringify(revision.slice(0, 100))} is no revision`,
      "give a branch, a tag or a commit",
    );
  }
  if (token !== undefined && !/^hf_\w+$/.test(token)) {
    throw new ConfigError("the token is none of the Hub's", "tokens begin with hf_ and have no spaces");
  }
  const { protocol, hostname } = hubUrl === undefined ? { protocol: "https:", hostname: "" } : parsed(hubUrl);
  if (token === undefined || protocol === "https:" || ["127.0.0.1", "localhost", "[::1]"].includes(hostname)) return;
  throw new ConfigError("the token would be sent without encryption", "use an https address for HF_ENDPOINT");
}

function parsed(url: string): URL {
  if (URL.canParse(url) && /^https?:/.test(url)) return new URL(url);
  throw new ConfigError("the address of the Hub is no http or https address", "check HF_ENDPOINT");
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
class Remote {
  readonly what: string;
  readonly #http: HubFetch;
  #commit = "";

  constructor(
    private readonly hub: Hub,
    private readonly repo: string,
    private readonly options: DownloadOptions,
  ) {
    this.what = `the model ${repo}`;
    this.#http = new HubFetch(this.what, options);
  }

  get #access(): { fetch: typeof fetch; hubUrl?: string; accessToken?: string } {
    const { hubUrl, token } = this.options;
    const address = hubUrl === undefined ? {} : { hubUrl: hubUrl.replace(/\/+$/, "") };
    return { fetch: this.#http.fetch, ...address, ...(token === undefined ? {} : { accessToken: token }) };
  }

  /** Runs it; what the client throws becomes a DownloadError without addresses or tokens. */
  async told<T>(action: () => Promise<T>): Promise<T> {
    try {
      return await action();
    } catch (error) {
      if (error instanceof SafetapeError) throw error;
      const failure = this.#http.takeFailure();
      if (failure) throw failure;
      throw new DownloadError(`the server of ${this.what} gave no answer of the Hub`, "check HF_ENDPOINT");
    }
  }

  /** What the revision is now: a branch may move while files are fetched. */
  async commit(): Promise<string> {
    const { revision = "main" } = this.options;
    const { sha } = await this.hub.modelInfo({ name: this.repo, revision, additionalFields: ["sha"], ...this.#access });
    if (typeof sha !== "string" || !/^[0-9a-f]{40}$/.test(sha)) {
      throw new DownloadError(`the server of ${this.what} names no commit of ${revision}`, "check HF_ENDPOINT");
    }
    return (this.#commit = sha);
  }

  async list(): Promise<Listed[]> {
    const files: Listed[] = [];
    for await (const entry of this.hub.listFiles({ repo: this.repo, revision: this.#commit, ...this.#access })) {
      if (entry.type === "file" && typeof entry.path === "string") files.push(entry);
    }
    return files;
  }

  /** True where it was there already. */
  async fetch(path: string, file: Promised): Promise<boolean> {
    checkFileName(file.file, path);
    const { attempts = 5, onProgress } = this.options;
    const onBytes = (done: number): void => onProgress?.({ file: file.file, done, size: file.size });
    return fetchFile(path, file, (from) => this.#bytes(file, from), { attempts, onBytes });
  }

  async *#bytes(file: Promised, from: number): AsyncGenerator<Uint8Array, void, undefined> {
    if (file.size === 0) return;
    const request = { repo: this.repo, path: file.file, revision: this.#commit, xet: false, ...this.#access };
    const blob = await this.hub.downloadFile(request);
    if (blob?.size !== file.size) {
      const size = blob === null ? "no" : blob.size;
      throw new DownloadError(
        `${this.what} lists ${file.file} with ${file.size} bytes, and has ${size}`,
        "try again later",
      );
    }
    this.#http.takeFailure();
    const reader = blob.slice(from, file.size).stream().getReader();
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

  /** The next bytes. @throws Error where none come for a while: the connection is then taken up again. */
  async #chunk(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<ReadableStreamReadResult<Uint8Array>> {
    const stop = new AbortController();
    const { silence = 60_000 } = this.options;
    const late = pause(silence, undefined, { signal: stop.signal }).then(() => {
      throw new Error("no bytes came");
    });
    late.catch(() => undefined);
    try {
      return await Promise.race([reader.read(), late]);
    } finally {
      stop.abort();
    }
  }
}
