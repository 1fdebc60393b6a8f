import { setTimeout as pause } from "node:timers/promises";
import { DownloadError, SafetapeError } from "../../base/errors";

/** How requests are repeated. */
export interface Patience {
  /** Times that a request is made in all. Default 5. */
  readonly attempts?: number;
  /** Milliseconds before the second attempt, twice as long before each further one. Default 500. */
  readonly pause?: number;
  /** The longest wait that a server may ask for, in milliseconds. Default two minutes. */
  readonly longest?: number;
  /** Milliseconds without an answer, or without a byte of it. Default one minute. */
  readonly silence?: number;
}

/** The server does not continue a file: it has to be fetched from its beginning. */
export class NotContinuedError extends DownloadError {}

const RETRIED = [408, 425, 429, 500, 502, 503, 504];

/**
 * `fetch` for the Hub's client: repeats what may succeed later, waits as long as a server asks for, and throws a DownloadError
 * for the rest. The client turns errors into text: the last one is kept for `takeFailure`.
 */
export class HubFetch {
  #failure: SafetapeError | undefined;

  constructor(
    private readonly what: string,
    private readonly patience: Patience,
  ) {}

  readonly fetch: typeof globalThis.fetch = async (input, init) => {
    try {
      return await this.#attempt(input, init);
    } catch (error) {
      if (error instanceof SafetapeError) this.#failure = error;
      throw error;
    }
  };

  takeFailure(): SafetapeError | undefined {
    const failure = this.#failure;
    this.#failure = undefined;
    return failure;
  }

  async #attempt(input: Parameters<typeof fetch>[0], init: RequestInit | undefined): Promise<Response> {
    const { attempts = 5, pause: first = 500, silence = 60_000 } = this.patience;
    for (let attempt = 1; ; attempt++) {
      const given = await answered(input, init, silence);
      const isLast = attempt >= attempts;
      if (given instanceof Response && !(RETRIED.includes(given.status) && !isLast)) {
        return this.#accepted(given, new Headers(init?.headers).get("range"));
      }
      if (!(given instanceof Response) && isLast) throw this.#unreachable(given);
      const asked = given instanceof Response ? this.#wait(given) : 0;
      if (given instanceof Response) await given.body?.cancel();
      await pause(Math.max(asked, first * 2 ** (attempt - 1)));
    }
  }

  /** Milliseconds that a server asks for: seconds, or a date. @throws DownloadError where they are too many. */
  #wait(response: Response): number {
    const told = response.headers.get("retry-after") ?? "";
    const asked = /^\d+$/.test(told) ? Number(told) * 1000 : Date.parse(told) - Date.now();
    const { longest = 120_000 } = this.patience;
    if (!(asked > longest)) return asked > 0 ? asked : 0;
    throw new DownloadError(
      `the server of ${this.what} asks to wait ${Math.ceil(asked / 1000)} seconds`,
      "try again later; what was fetched is kept",
    );
  }

  #unreachable(code: string): DownloadError {
    return new DownloadError(
      `the server of ${this.what} cannot be reached: ${code}`,
      "check the network and HF_ENDPOINT, and run it again: what was fetched is kept",
    );
  }

  #accepted(response: Response, range: string | null): Response {
    if (!response.ok) throw this.#refused(response);
    const start = Number(/^bytes=(\d+)-/.exec(range ?? "")?.[1] ?? 0);
    const given = /^bytes (\d+)-/.exec(response.headers.get("content-range") ?? "")?.[1];
    if (start > 0 && (response.status !== 206 || Number(given) !== start)) {
      throw new NotContinuedError(`the server of ${this.what} does not continue files`, "it is fetched anew");
    }
    return response;
  }

  /** No address is told: those of stored files hold signatures. */
  #refused({ status, headers }: Response): DownloadError {
    const code = headers.get("x-error-code") ?? "";
    if (code === "GatedRepo" || status === 403) {
      return new DownloadError(
        `${this.what} is gated (${status})`,
        "accept its terms on its page, then give a token of that account: HF_TOKEN or --token-file",
      );
    }
    if (status === 401) {
      return new DownloadError(
        `${this.what} does not exist, or needs a token (401)`,
        "check the name; for a private model give a token: HF_TOKEN or --token-file",
      );
    }
    if (status === 404) {
      const missing = code === "RevisionNotFound" ? "this revision" : code === "EntryNotFound" ? "a file" : "";
      return new DownloadError(
        missing === ""
          ? `there is no ${this.what.replace("the ", "")} (404)`
          : `${this.what} does not have ${missing} (404)`,
        "check OWNER/NAME and --revision",
      );
    }
    return new DownloadError(`the server of ${this.what} answers ${status}`, "try again later");
  }
}

/** A response, or the code of what went wrong. */
async function answered(
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
    const { code } = ((error as Error).cause ?? {}) as { readonly code?: unknown };
    return typeof code === "string" ? code : "the connection failed";
  } finally {
    clearTimeout(timer);
  }
}
