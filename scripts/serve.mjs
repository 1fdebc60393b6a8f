// @ts-check
// A static server for the tests. It serves files of given folders, supports byte ranges, and sets a
// Content-Security-Policy that allows only the server's own scripts.
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize, sep } from "node:path";
import { pipeline } from "node:stream";

export const STRICT_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "connect-src 'self'",
  "worker-src 'self'",
  "style-src 'self'",
  "img-src 'self' blob:",
].join("; ");

/** @type {Readonly<Record<string, string>>} */
const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".json": "application/json",
  ".map": "application/json",
  ".png": "image/png",
  ".svg": "image/svg+xml",
  ".tsv": "text/tab-separated-values; charset=utf-8",
};

/**
 * @typedef {import("node:http").IncomingMessage} Request
 * @typedef {import("node:http").ServerResponse} Response
 * @typedef {{ url: string, close: () => Promise<void> }} Served
 */

/**
 * Serves folders on 127.0.0.1.
 * @param {Readonly<Record<string, string>>} mounts the folders by URL path; a path ends with a slash
 * @param {{ port?: number, intercept?: (request: Request, response: Response) => boolean }} [options] `intercept`
 *   may answer a request itself, and returns whether it did
 * @returns {Promise<Served>}
 */
export async function serve(mounts, { port = 0, intercept } = {}) {
  const server = createServer((request, response) => {
    if (intercept?.(request, response)) return;
    answer(mounts, request, response).catch(() => response.writeHead(500).end());
  });
  await new Promise((resolve, reject) => {
    server.once("error", reject).listen(port, "127.0.0.1", () => resolve(undefined));
  });
  const address = /** @type {import("node:net").AddressInfo} */ (server.address());
  const close = async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  return { url: `http://127.0.0.1:${address.port}`, close };
}

/** @param {Readonly<Record<string, string>>} mounts @param {Request} request @param {Response} response */
async function answer(mounts, request, response) {
  const path = fileFor(mounts, request.url ?? "/");
  const file = path === undefined ? undefined : await stat(path).catch(() => undefined);
  const isRead = request.method === "GET" || request.method === "HEAD";
  if (path === undefined || !file?.isFile() || !isRead) {
    response.writeHead(isRead ? 404 : 405, { "content-type": "text/plain" }).end();
    return;
  }
  const range = rangeOf(request.headers.range, file.size);
  const { start, end } = range ?? { start: 0, end: file.size };
  response.writeHead(range ? 206 : 200, {
    "content-type": TYPES[extname(path)] ?? "application/octet-stream",
    "content-length": end - start,
    "content-security-policy": STRICT_POLICY,
    "cache-control": "no-cache",
    ...(range ? { "content-range": `bytes ${start}-${end - 1}/${file.size}` } : {}),
  });
  if (request.method === "HEAD" || start === end) response.end();
  else pipeline(createReadStream(path, { start, end: end - 1 }), response, () => undefined);
}

/** @param {Readonly<Record<string, string>>} mounts @param {string} url */
function fileFor(mounts, url) {
  const path = decodePath(new URL(url, "http://localhost").pathname);
  const mount = Object.keys(mounts).find((prefix) => path?.startsWith(prefix));
  if (path === undefined || mount === undefined) return undefined;
  const folder = normalize(`${mounts[mount]}${sep}`);
  const file = join(folder, path.slice(mount.length) || "index.html");
  const inside = file.startsWith(folder);
  return inside ? (path.endsWith("/") && path.length > mount.length ? join(file, "index.html") : file) : undefined;
}

/** @param {string} path */
function decodePath(path) {
  try {
    return decodeURIComponent(path);
  } catch {
    return undefined;
  }
}

/** @param {string | undefined} header @param {number} size */
function rangeOf(header, size) {
  const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(header ?? "") ?? [];
  if (first === undefined || Number(first) >= size) return undefined;
  return { start: Number(first), end: Math.min(size, last ? Number(last) + 1 : size) };
}
