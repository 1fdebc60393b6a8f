import { createHash } from "node:crypto";
import { createServer } from "node:http";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { parseJson } from "./json";

interface Branch {
  /** Messages of its commits. */
  readonly messages: string[];
  readonly files: Map<string, Uint8Array>;
}

/** A repository of an `UploadHub`. */
interface Repository {
  readonly visibility: string;
  readonly branches: Map<string, Branch>;
}

interface Reply {
  /** Default 200. */
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** Default {}. */
  readonly value?: unknown;
}

interface CommitLine {
  readonly key: "header" | "file" | "lfsFile";
  readonly value: {
    readonly summary?: string;
    readonly path: string;
    readonly content: string;
    readonly oid: string;
    readonly size: number;
  };
}

/**
 * A server with the parts of the Hub's interface that an upload uses: creation of repositories and branches, which files are large,
 * the batches of LFS with parts of 1,000 bytes or whole files, and commits, which are refused where a large file was not sent.
 */
export class UploadHub {
  readonly requests: string[] = [];
  readonly tokens = new Set<string | undefined>();
  readonly repositories = new Map<string, Repository>();
  /** A status that is answered to the next `times` requests whose path contains `path`. */
  refuse: { readonly path: string; readonly status: number; times: number } | undefined;
  /** Bytes of the parts of large files; 0 sends them whole. */
  partBytes = 1000;
  readonly #stored = new Map<string, Uint8Array>();
  #server: Server | undefined;
  url = "";

  async start(): Promise<this> {
    const server = createServer((request, answer) => void this.#answer(request, answer));
    this.#server = server;
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    // A server that listens on a port has an address of this form.
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    return this;
  }

  async stop(): Promise<void> {
    this.#server?.closeAllConnections();
    await new Promise((resolve) => this.#server?.close(resolve));
  }

  /** The files of a branch; undefined where nothing was published. */
  published(repo = "owner/model", branch = "main"): ReadonlyMap<string, Uint8Array> | undefined {
    return this.repositories.get(repo)?.branches.get(branch)?.files;
  }

  async #answer(request: IncomingMessage, answer: ServerResponse): Promise<void> {
    const path = decodeURIComponent(request.url ?? "");
    const parts: Uint8Array[] = [];
    for await (const part of request) parts.push(part as Uint8Array); // Requests without an encoding give bytes.
    const body = Buffer.concat(parts);
    this.requests.push(`${request.method} ${path}`);
    if (!path.startsWith("/store/")) this.tokens.add(request.headers.authorization);
    if (this.refuse && path.includes(this.refuse.path) && this.refuse.times-- > 0) {
      answer.writeHead(this.refuse.status).end(`no, ${request.headers.authorization}`);
      return;
    }
    const { status = 200, headers, value = {} } = this.#route(path, body);
    answer.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify(value));
  }

  #route(path: string, body: Buffer): Reply {
    if (path === "/api/repos/create") return this.#create(body);
    if (path.startsWith("/store/")) return this.#store(path.slice("/store/".length), body);
    const [, repo = "", action = "", branch = "main"] =
      /^\/(?:api\/models\/)?([\w-]+\/[\w-]+)(?:\.git\/info\/lfs\/objects)?\/(branch|preupload|batch|commit)\/?(.*)$/.exec(
        path,
      ) ?? [];
    const repository = this.repositories.get(repo);
    if (!repository) return { status: 404, headers: { "x-error-code": "RepoNotFound" } };
    const { branches } = repository;
    if (action === "branch") {
      if (branches.has(branch)) return { status: 409 };
      branches.set(branch, { messages: [], files: new Map() });
      return {};
    }
    if (action === "batch") return this.#batch(body);
    if (!branches.has(branch)) return { status: 404, headers: { "x-error-code": "RevisionNotFound" } };
    if (action === "commit") return this.#commit(branches.get(branch)!, body);
    const { files } = parseJson<{ files: { path: string; size: number }[] }>(body.toString());
    const modeOf = (file: string): string => (file.endsWith(".safetensors") ? "lfs" : "regular");
    return { value: { files: files.map((file) => ({ path: file.path, uploadMode: modeOf(file.path) })) } };
  }

  #create(body: Buffer): Reply {
    const { organization, name, visibility = "public" } = parseJson<Record<string, string>>(body.toString());
    const id = `${organization}/${name}`;
    if (this.repositories.has(id)) return { status: 409 };
    this.repositories.set(id, { visibility, branches: new Map([["main", { messages: [], files: new Map() }]]) });
    return { value: { url: `${this.url}/${id}`, id } };
  }

  #batch(body: Buffer): Reply {
    const { objects } = parseJson<{ objects: { oid: string; size: number }[] }>(body.toString());
    const actionsOf = (oid: string, size: number): object => {
      if (this.#stored.has(oid)) return {};
      if (this.partBytes === 0) return { actions: { upload: { href: `${this.url}/store/${oid}` } } };
      const count = Math.ceil(size / this.partBytes);
      const header: Record<string, string> = { chunk_size: String(this.partBytes) };
      for (let i = 0; i < count; i++) header[String(i + 1).padStart(5, "0")] = `${this.url}/store/${oid}/${i}`;
      return { actions: { upload: { href: `${this.url}/store/${oid}/all/${count}`, header } } };
    };
    return {
      value: {
        transfer: "basic",
        objects: objects.map(({ oid, size }) => ({ oid, size, ...actionsOf(oid, size) })),
      },
    };
  }

  #store(name: string, body: Buffer): Reply {
    const [, oid = "", count] = /^(\w+)\/all\/(\d+)$/.exec(name) ?? [];
    if (count === undefined) this.#stored.set(name, body);
    else {
      const parts = Array.from({ length: Number(count) }, (_, i) => this.#stored.get(`${oid}/${i}`)!);
      this.#stored.set(oid, Buffer.concat(parts));
    }
    return { headers: { etag: '"part"' } };
  }

  #commit({ messages, files }: Branch, body: Buffer): Reply {
    const lines = body
      .toString()
      .split("\n")
      .map((line) => parseJson<CommitLine>(line));
    const sent = new Map<string, Uint8Array>();
    for (const { key, value } of lines) {
      if (key === "file") sent.set(value.path, Buffer.from(value.content, "base64"));
      if (key !== "lfsFile") continue;
      const bytes = this.#stored.get(value.oid);
      const isRight = bytes?.length === value.size && createHash("sha256").update(bytes).digest("hex") === value.oid;
      if (!isRight) return { status: 422 };
      sent.set(value.path, bytes);
    }
    for (const [path, bytes] of sent) files.set(path, bytes);
    messages.push(lines.find(({ key }) => key === "header")!.value.summary!);
    return { value: { commitOid: "89abcdef".repeat(5), commitUrl: `${this.url}/commit` } };
  }
}
