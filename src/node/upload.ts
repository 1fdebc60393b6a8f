import { readdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { ConfigError, SafetapeError, UploadError } from "../base/errors";
import { openDirectory } from "./directory";
import { filesToUpload } from "./hub/choose-uploaded";
import { accessOf, checkRequest, loadClient } from "./hub/client";
import type { HubAccess } from "./hub/client";
import { HubFetch } from "./hub/fetch";
import type { RetryOptions } from "./hub/fetch";

export interface UploadOptions extends RetryOptions, HubAccess {
  /** Default "main". */
  readonly branch?: string;
  /** First line of the commit's message. Default "Upload with safetape". */
  readonly message?: string;
  /** Whether to create the repository or the branch, if they do not exist. Default false. */
  readonly create?: boolean;
  /** Whether a repository that is created is private. Default: as its owner has chosen for new ones. */
  readonly private?: boolean;
  /** Called with what should be known before anything is sent. */
  readonly warn?: (message: string) => void;
  /** Called as large files are read and sent: the share of `file` from 0 to 1. */
  readonly onProgress?: (progress: { readonly file: string; readonly share: number; readonly what: string }) => void;
}

/** What was uploaded. */
export interface Upload {
  readonly commit: string;
  readonly files: readonly string[];
  /** Files of the directory that were not uploaded: they are of the run, not of the adapter or the model. */
  readonly left: readonly string[];
}

/** Longest time without an answer, which comes only after a complete part of a file. */
const SILENCE = 3_600_000;

/**
 * Uploads the files of an adapter or a model to the Hugging Face Hub as one commit: all of them are published, or none.
 * @param path of the directory. @param repo OWNER/NAME.
 * @throws before anything is sent: ConfigError for a wrong name, branch or token; FileFormatError for checkpoints of a run, without a
 * model card, for files that are missing or damaged, and for an adapter whose base model is a path. Later UploadError.
 */
export async function uploadModel(path: string, repo: string, options: UploadOptions = {}): Promise<Upload> {
  const { branch = "main", token, message = "Upload with safetape", onProgress } = options;
  checkRequest(repo, { ...options, revision: branch });
  if (token === undefined) {
    throw new ConfigError("An upload needs an access token that may write.", "Give it by HF_TOKEN or --token-file.");
  }
  const directory = await openDirectory(path);
  const { files, left, warnings } = await filesToUpload(directory, await readdir(path));
  for (const warning of warnings) options.warn?.(warning);
  const hub = await loadClient();
  const http = new UploadFetch(`the model ${repo}`, { silence: SILENCE, ...options });
  const target = { repo: { type: "model", name: repo } as const, accessToken: token, ...accessOf(options) };
  const access = { ...target, fetch: http.fetch };
  return http.explained(async () => {
    if (options.create) {
      const visibility = options.private ? { visibility: "private" as const } : {};
      await http.unlessThere(() => hub.createRepo({ ...access, accessToken: token, ...visibility }));
      if (branch !== "main") await http.unlessThere(() => hub.createBranch({ ...access, branch }));
    }
    const operations = files.map((file) => ({
      operation: "addOrUpdate" as const,
      path: file,
      content: pathToFileURL(resolve(join(path, file))),
    }));
    // The Hub's newer way for large files, Xet, could not be tried here.
    const commit = hub.commitIter({ ...access, title: message, branch, operations, useXet: false });
    for (;;) {
      const { done, value } = await commit.next();
      if (!done && value.event === "fileProgress") {
        onProgress?.({ file: value.path, share: value.progress, what: value.state });
      }
      if (done) return { commit: value!.commit.oid, files, left }; // Only commits to buckets have no result.
    }
  });
}

/** `fetch` for uploads, with errors about them. */
class UploadFetch extends HubFetch {
  #isThere = false;

  /** Runs an action. An error of the client becomes an UploadError without addresses or tokens. */
  async explained<T>(action: () => Promise<T>): Promise<T> {
    try {
      return await action();
    } catch (error) {
      const failure = this.takeFailure() ?? error;
      if (failure instanceof SafetapeError) throw failure;
      throw new UploadError(
        `the server of ${this.title} did not answer as the Hub does`,
        "nothing is published: check HF_ENDPOINT",
      );
    }
  }

  /** Runs an action that creates something. It may exist already. */
  async unlessThere(action: () => Promise<unknown>): Promise<void> {
    try {
      await action();
    } catch (error) {
      if (!this.#takeConflict()) throw error;
      this.takeFailure();
    }
  }

  /** Whether what was to be created is there; forgets it. */
  #takeConflict(): boolean {
    const isThere = this.#isThere;
    this.#isThere = false;
    return isThere;
  }

  protected override refused({ status, headers }: Response): UploadError {
    this.#isThere = status === 409;
    if (status === 401 || status === 403) {
      return new UploadError(
        `${this.title} may not be written with this token (${status})`,
        "check OWNER/NAME, and give a token that may write: HF_TOKEN or --token-file",
      );
    }
    if (status === 404) {
      const isBranch = headers.get("x-error-code") === "RevisionNotFound";
      return new UploadError(
        isBranch
          ? `${this.title} does not have this branch (404)`
          : `there is no ${this.title.replace("the ", "")} (404)`,
        "check the name, or give --create",
      );
    }
    return new UploadError(`the server of ${this.title} answers ${status}`, "nothing is published: try again later");
  }

  protected override tooLong(seconds: number): UploadError {
    return new UploadError(
      `the server of ${this.title} asks to wait ${seconds} seconds`,
      "nothing is published: try again later",
    );
  }

  protected override unreachable(code: string): UploadError {
    return new UploadError(
      `the server of ${this.title} cannot be reached: ${code}`,
      "nothing is published: check the network and HF_ENDPOINT, then run it again",
    );
  }
}
