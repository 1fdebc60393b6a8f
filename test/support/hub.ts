import { createHash } from "node:crypto";
import { createServer } from "node:http";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** A fault of a server: what it does wrong with a file. */
export interface Fault {
  readonly file: string;
  readonly kind: "cut" | "flip" | "no-range" | "too-long" | "silent";
  /** Number of bytes that are sent before the connection is cut or goes silent. */
  readonly after?: number;
  /** Number of requests with the fault; later ones are answered correctly. */
  times: number;
}

/** A request that a server received. */
export interface ReceivedRequest {
  readonly host: "hub" | "store";
  readonly path: string;
  readonly token: string | undefined;
  readonly range: string | undefined;
}

export const COMMIT = "0123456789abcdef0123456789abcdef01234567";
const hex = (algorithm: string, ...parts: (string | Uint8Array)[]): string => {
  const hash = createHash(algorithm);
  for (const part of parts) hash.update(part);
  return hash.digest("hex");
};

/**
 * A server with the parts of the Hub's interface that a download uses, for the model `owner/model`: its listing with sizes and
 * hashes, redirects and ranges. As on the Hub, another server holds the large files. Both can be given faults.
 */
export class FakeHub {
  readonly requests: ReceivedRequest[] = [];
  readonly faults: Fault[] = [];
  /** An error that the Hub answers to the next `times` requests, whatever they ask for. */
  refuse: { readonly status: number; readonly headers?: Record<string, string>; times: number } | undefined;
  readonly #servers: Server[] = [];
  url = "";
  #store = "";

  constructor(
    private readonly files: Map<string, Uint8Array>,
    /** Files of at least this many bytes are stored in LFS. */
    private readonly large = 1000,
    /** Changes to entries of the listing, by path. */
    private readonly listingChanges: Readonly<Record<string, object>> = {},
  ) {}

  async start(): Promise<this> {
    this.#store = await this.#listen((request, answer) => this.#answerStore(request, answer));
    this.url = await this.#listen((request, answer) => this.#answerHub(request, answer));
    return this;
  }

  async stop(): Promise<void> {
    for (const server of this.#servers) {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
  }

  async #listen(handler: (request: IncomingMessage, answer: ServerResponse) => void): Promise<string> {
    const server = createServer(handler);
    this.#servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    // A server that listens on a port has an address of this form.
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  #record(host: ReceivedRequest["host"], { url = "", headers }: IncomingMessage): string {
    this.requests.push({ host, path: url, token: headers.authorization, range: headers.range });
    return decodeURIComponent(url.split("?")[0] ?? "");
  }

  #answerHub(request: IncomingMessage, answer: ServerResponse): void {
    const path = this.#record("hub", request);
    if (this.refuse && this.refuse.times-- > 0) {
      answer.writeHead(this.refuse.status, { "content-type": "application/json", ...this.refuse.headers });
      return void answer.end(JSON.stringify({ error: `no, ${request.headers.authorization ?? "stranger"}` }));
    }
    const file = path.startsWith(`/owner/model/resolve/${COMMIT}/`) ? path.split("/").slice(5).join("/") : "";
    const bytes = this.files.get(file);
    if (path.startsWith("/api/models/owner/model/revision/"))
      json(answer, { _id: "1", id: "owner/model", sha: COMMIT });
    else if (path === `/api/models/owner/model/tree/${COMMIT}`) json(answer, this.#listing());
    else if (bytes === undefined) answer.writeHead(404, { "x-error-code": "EntryNotFound" }).end();
    else if (bytes.length < this.large) this.#send(request, answer, file, bytes);
    else {
      const location = `${this.#store}/${file}?signature=secret`;
      answer.writeHead(302, { location, "x-linked-size": bytes.length }).end();
    }
  }

  #answerStore(request: IncomingMessage, answer: ServerResponse): void {
    const file = this.#record("store", request).slice(1);
    this.#send(request, answer, file, this.files.get(file)!);
  }

  #listing(): object[] {
    return [...this.files].map(([path, bytes]) => {
      const oid = hex("sha1", `blob ${bytes.length}\0`, bytes);
      const lfs = { oid: hex("sha256", bytes), size: bytes.length, pointerSize: 130 };
      const hashes = bytes.length < this.large ? { oid } : { oid: COMMIT, lfs };
      return { type: "file", path, size: bytes.length, ...hashes, ...this.listingChanges[path] };
    });
  }

  #send(request: IncomingMessage, answer: ServerResponse, file: string, whole: Uint8Array): void {
    const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "") ?? [];
    const isProbe = request.headers.range === "bytes=0-0";
    const fault = isProbe ? undefined : this.faults.find((candidate) => candidate.file === file && candidate.times > 0);
    if (fault) fault.times--;
    const isRange = from !== undefined && fault?.kind !== "no-range";
    const start = isRange ? Number(from) : 0;
    let bytes = Uint8Array.from(whole.subarray(start, isRange && to !== "" ? Number(to) + 1 : whole.length));
    if (fault?.kind === "flip") bytes[bytes.length >> 1]! ^= 1;
    if (fault?.kind === "too-long") bytes = Uint8Array.from([...bytes, 1, 2, 3]);
    const headers: Record<string, string | number> = { etag: '"x"' };
    if (isRange) headers["content-range"] = `bytes ${start}-${start + bytes.length - 1}/${whole.length}`;
    if (!fault) headers["content-length"] = bytes.length;
    answer.writeHead(isRange ? 206 : 200, headers);
    if (fault?.kind !== "cut" && fault?.kind !== "silent") return void answer.end(bytes);
    answer.write(bytes.subarray(0, fault.after ?? 0));
    if (fault.kind === "cut") setTimeout(() => answer.destroy(), 30);
  }
}

function json(answer: ServerResponse, value: unknown): void {
  answer.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(value));
}
