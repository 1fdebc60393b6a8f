import { createReadStream } from "node:fs";
import { lstat, realpath } from "node:fs/promises";
import { createServer } from "node:http";
import type { IncomingMessage, ServerResponse } from "node:http";
import { extname, join, sep } from "node:path";
import { pipeline } from "node:stream";
import { UsageError } from "../options";

/** The policy of the page: its own scripts alone. Models are fetched from the addresses that the user types. */
export const STUDIO_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "worker-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self' https: http://localhost:* http://127.0.0.1:* wss: ws:",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".json": "application/json",
  ".svg": "image/svg+xml",
  ".tsv": "text/tab-separated-values; charset=utf-8",
  ".txt": "text/plain; charset=utf-8",
};

const HEADERS = {
  "content-security-policy": STUDIO_POLICY,
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
  "cache-control": "no-cache",
};

export interface StudioServer {
  readonly url: string;
  close(): Promise<void>;
}

/**
 * Serves the files of a folder on 127.0.0.1, and to pages of that address alone: other Host headers, which pages of other sites send
 * where their name leads here, are refused. So are methods that change something, paths out of the folder, and symbolic links.
 * @param port 0 for any that is free.
 * @throws UsageError for a port that is taken or not allowed.
 */
export async function serveStudio(folder: string, port: number): Promise<StudioServer> {
  const root = await realpath(folder);
  let hosts: readonly string[] = [];
  const server = createServer((request, response) => {
    answer(root, hosts, request, response).catch(() => end(response, 500, "The file cannot be read."));
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject).listen(port, "127.0.0.1", resolve);
  }).catch((cause: unknown) => {
    const reason = (cause instanceof Error ? cause.message : String(cause)).replace(/\.$/, "");
    throw new UsageError(`Port ${port} of 127.0.0.1 cannot be used: ${reason}.`, "Give another one: --port 8018.", {
      cause,
    });
  });
  const address = server.address();
  const actual = typeof address === "object" && address ? address.port : port;
  hosts = ["127.0.0.1", "localhost"].flatMap((name) => (actual === 80 ? [name, `${name}:80`] : [`${name}:${actual}`]));
  return {
    url: `http://127.0.0.1:${actual}/`,
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function answer(
  root: string,
  hosts: readonly string[],
  { method, url = "/", headers }: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const isOwn = hosts.includes(headers.host?.toLowerCase() ?? "");
  const reads = method === "GET" || method === "HEAD";
  const path = isOwn && reads ? await fileAt(root, url) : undefined;
  const file = path === undefined ? undefined : await lstat(path).catch(() => undefined);
  if (path === undefined || !file?.isFile()) {
    if (!isOwn) end(response, 421, "This server answers pages of its own address alone.");
    else if (!reads) end(response, 405, "This server reads files alone.");
    else end(response, 404, "There is no such file.");
    return;
  }
  response.writeHead(200, {
    ...HEADERS,
    "content-type": TYPES[extname(path)] ?? "application/octet-stream",
    "content-length": file.size,
  });
  if (method === "HEAD" || file.size === 0) response.end();
  else pipeline(createReadStream(path), response, () => undefined);
}

/** The file that an address means; undefined for one that is not in the folder, or reached over a link. */
async function fileAt(root: string, url: string): Promise<string | undefined> {
  const names = namesIn(url);
  if (!names) return undefined;
  const path = join(root, ...names);
  // The real path of a link is another one, at whatever place in the path it is.
  const real = await realpath(path).catch(() => undefined);
  return real === path && real.startsWith(root + sep) ? path : undefined;
}

/** The names that an address consists of; undefined for those that no file of the folder has. */
function namesIn(url: string): string[] | undefined {
  const path = url.split(/[?#]/, 1)[0]!;
  try {
    const names = path.split("/").slice(1).map(decodeURIComponent);
    if (!path.startsWith("/") || names.some((name) => /^\.|[/\\:\0]/.test(name))) return undefined;
    const file = names.at(-1) === "" ? [...names.slice(0, -1), "index.html"] : names;
    return file.includes("") ? undefined : file;
  } catch {
    return undefined;
  }
}

function end(response: ServerResponse, status: number, text: string): void {
  if (!response.headersSent) response.writeHead(status, { ...HEADERS, "content-type": "text/plain; charset=utf-8" });
  response.end(`${text}\n`);
}
