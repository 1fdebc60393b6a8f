import { setTimeout as pause } from "node:timers/promises";
import { DownloadError, SafetapeError } from "../../base/errors";
import { errorCode } from "../directory";

/** How requests are repeated. Times are in milliseconds. */
export interface RetryOptions {
  /** Most attempts of one request. Default 5. */
  readonly attempts?: number;
  /** Pause before the second attempt; it doubles before each further one. Default 500. */
  readonly pause?: number;
  /** Longest wait that a server may ask for. Default two minutes. */
  readonly longest?: number;
  /** Longest time without an answer, or without a byte of it. Default one minute. */
  readonly silence?: number;
}

/** The server does not continue a file, which has to be fetched from its beginning. */
export class NotContinuedError extends DownloadError {}

/** Status codes of requests that may succeed later. */
const RETRIED = [408, 425, 429, 500, 502, 503, 504];

/**
 * `fetch` for the Hub's client. It repeats requests that may succeed later, waits as long as the server asks, and throws a
 * DownloadError otherwise. The client turns that error into text, so that `takeFailure` returns the original one.
 */
export class HubFetch {
  #failure: SafetapeError | undefined;

  constructor(
    /** The repository in error messages. */
    protected readonly title: string,
    private readonly retry: RetryOptions,
  ) {}

  readonly fetch: typeof globalThis.fetch = async (input, init) => {
    try {
      return await this.#attempt(input, init);
    } catch (error) {
      if (error instanceof SafetapeError) this.#failure = error;
      throw error;
    }
  };

  /** Returns and forgets the error of the last failed request. */
  takeFailure(): SafetapeError | undefined {
    const failure = this.#failure;
    this.#failure = undefined;
    return failure;
  }

  async #attempt(input: Parameters<typeof fetch>[0], init: RequestInit | undefined): Promise<Response> {
    const { attempts = 5, pause: firstPause = 500, silence = 60_000 } = this.retry;
    for (let attempt = 1; ; attempt++) {
      const answer = await tryFetch(input, init, silence);
      const isLast = attempt >= attempts;
      if (answer instanceof Response && !(RETRIED.includes(answer.status) && !isLast)) {
        return this.#accepted(answer, new Headers(init?.headers).get("range"));
      }
      if (!(answer instanceof Response) && isLast) throw this.unreachable(answer);
      const wait = answer instanceof Response ? this.#requestedWait(answer) : 0;
      if (answer instanceof Response) await answer.body?.cancel();
      await pause(Math.max(wait, firstPause * 2 ** (attempt - 1)));
    }
  }

  /** Milliseconds that a server asks to wait, in seconds or as a date. @throws DownloadError if they are too many. */
  #requestedWait(response: Response): number {
    const header = response.headers.get("retry-after") ?? "";
    const wait = /^\d+$/.test(header) ? Number(header) * 1000 : Date.parse(header) - Date.now();
    const { longest = 120_000 } = this.retry;
    if (!(wait > longest)) return wait > 0 ? wait : 0;
    throw this.tooLong(Math.ceil(wait / 1000));
  }

  protected tooLong(seconds: number): SafetapeError {
    return new DownloadError(
      `the server of ${this.title} asks to wait ${seconds} seconds`,
      "try again later; fetched bytes are kept",
    );
  }

  protected unreachable(code: string): SafetapeError {
    return new DownloadError(
      `the server of ${this.title} cannot be reached: ${code}`,
      "check the network and HF_ENDPOINT, then run it again; fetched bytes are kept",
    );
  }

  #accepted(response: Response, range: string | null): Response {
    if (!response.ok) throw this.refused(response);
    const start = Number(/^bytes=(\d+)-/.exec(range ?? "")?.[1] ?? 0);
    const receivedStart = /^bytes (\d+)-/.exec(response.headers.get("content-range") ?? "")?.[1];
    if (start > 0 && (response.status !== 206 || Number(receivedStart) !== start)) {
      throw new NotContinuedError(
        `the server of ${this.title} does not continue files`,
        "the file is fetched from its beginning",
      );
    }
    return response;
  }

  /** The error of a refused request. It contains no address, because addresses of stored files contain signatures. */
  protected refused({ status, headers }: Response): SafetapeError {
    const code = headers.get("x-error-code") ?? "";
    if (code === "GatedRepo" || status === 403) {
      return new DownloadError(
        `${this.title} is gated (${status})`,
        "accept the terms on its page, then give a token of that account: HF_TOKEN or --token-file",
      );
    }
    if (status === 401) {
      return new DownloadError(
        `${this.title} does not exist, or needs a token (401)`,
        "check the name; for a private model give a token: HF_TOKEN or --token-file",
      );
    }
    if (status === 404) {
      const missing = code === "RevisionNotFound" ? "this revision" : code === "EntryNotFound" ? "a file" : "";
      return new DownloadError(
        missing === ""
          ? `there is no ${this.title.replace("the ", "")} (404)`
          : `${this.title} does not have ${missing} (404)`,
        "check OWNER/NAME and --revision",
      );
    }
    return new DownloadError(`the server of ${this.title} answers ${status}`, "try again later");
  }
}

/** A response, or in words why there is none. */
async function tryFetch(
  input: Parameters<typeof fetch>[0],
  init: RequestInit | undefined,
  silence: number,
): Promise<Response | string> {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), silence);
  try {
    return await fetch(input, { ...init, signal: abort.signal });
  } catch (error) {
    if (abort.signal.aborted) return "it does not answer";
    return (error instanceof Error && errorCode(error.cause)) || "the connection failed";
  } finally {
    clearTimeout(timer);
  }
}
