import { createServer } from "node:http";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { ConfigError, FileFormatError } from "../../src/base/errors";
import { fetchDirectory } from "../../src/io/fetch-directory";
import type { FetchProgress } from "../../src/io/fetch-directory";
import { failure } from "../support/failure";

const LARGE = 64 * 2 ** 20 + 10;

let server: Server | undefined;
afterEach(() => {
  server?.closeAllConnections();
  server?.close();
});

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

/** Starts a server that answers with a handler and records the requests. */
async function serve(handler: Handler): Promise<{ url: string; requests: string[] }> {
  const requests: string[] = [];
  server = createServer((request, response) => {
    requests.push(`${request.method} ${request.url} ${request.headers.range ?? ""}`.trim());
    handler(request, response);
  });
  await new Promise<void>((resolve) => server?.listen(0, "127.0.0.1", resolve));
  // A server that listens on a port has an address of this form.
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/model`, requests };
}

const SMALL = Uint8Array.from({ length: 1000 }, (_, i) => i % 251);

/** Answers requests for ranges of a file of LARGE bytes, whose byte i is i % 251. */
function large(request: IncomingMessage, response: ServerResponse, version = "v1"): void {
  const [, from = "0", to = "0"] = /bytes=(\d+)-(\d+)/.exec(request.headers.range ?? "") ?? [];
  const headers = { etag: version, "content-type": "application/octet-stream" };
  if (request.method === "HEAD") {
    response.writeHead(200, { ...headers, "content-length": LARGE }).end();
    return;
  }
  const body = Uint8Array.from({ length: Number(to) - Number(from) + 1 }, (_, i) => (Number(from) + i) % 251);
  response.writeHead(206, headers).end(body);
}

/** Answers with SMALL, and ignores ranges. */
const small: Handler = (request, response) => {
  response.writeHead(200, { "content-length": SMALL.length }).end(request.method === "HEAD" ? undefined : SMALL);
};

describe("fetchDirectory", () => {
  test("fetches a small file once, and reports progress up to its size", async () => {
    const { url, requests } = await serve(small);
    const reports: FetchProgress[] = [];
    const directory = fetchDirectory(url, { onProgress: (progress) => reports.push(progress) });
    expect(await directory.size("a b.bin")).toBe(1000);
    expect(await directory.read("a b.bin", 10, 20)).toEqual(SMALL.slice(10, 20));
    expect(await directory.read("a b.bin")).toEqual(SMALL);
    expect(requests).toEqual(["HEAD /model/a%20b.bin", "GET /model/a%20b.bin"]);
    expect(reports.at(-1)).toEqual({ file: "a b.bin", loaded: 1000, total: 1000 });
    expect(await directory.list()).toEqual(["a b.bin"]);
  });

  test("fetches only those ranges of a large file that are read", async () => {
    const { url, requests } = await serve((request, response) => large(request, response));
    const directory = fetchDirectory(url);
    expect(await directory.size("big")).toBe(LARGE);
    const part = await directory.read("big", 1_000_000, 1_000_500);
    expect(Array.from(part)).toEqual(Array.from({ length: 500 }, (_, i) => (1_000_000 + i) % 251));
    expect(requests).toEqual(["HEAD /model/big", "GET /model/big bytes=1000000-1000499"]);
    await failure(directory.read("big", LARGE - 1, LARGE + 1), FileFormatError);
  });

  test("refuses a file that changes between two ranges", async () => {
    const { url } = await serve((request, response) =>
      large(request, response, request.headers.range?.includes("=0-") ? "v2" : "v1"),
    );
    const directory = fetchDirectory(url);
    await directory.read("big", 5, 10);
    expect(String(await failure(directory.read("big", 0, 10)))).toMatch(/changed while it was read/);
  });

  test("refuses a range that is shorter or longer than requested", async () => {
    for (const length of [3, 30]) {
      const { url } = await serve((request, response) => {
        if (request.method === "HEAD") response.writeHead(200, { "content-length": LARGE }).end();
        else response.writeHead(206).end(SMALL.slice(0, length));
      });
      const error = await failure(fetchDirectory(url).read("big", 0, 10), FileFormatError);
      expect(error.message).toMatch(`${length} bytes of big`);
    }
  });

  test("reads whole files from a server without ranges, HEAD and lengths", async () => {
    const { url } = await serve((request, response) => {
      if (request.method === "HEAD") response.writeHead(405).end();
      else response.writeHead(200).end(SMALL);
    });
    const directory = fetchDirectory(url);
    expect(await directory.size("x")).toBe(1000);
    expect(await directory.read("x", 1, 3)).toEqual(SMALL.slice(1, 3));
  });

  test("treats a file as missing if the server answers with status 404 or a page of HTML", async () => {
    const page: Handler = (request, response) => {
      if (request.url?.endsWith("gone")) response.writeHead(404).end();
      else response.writeHead(200, { "content-type": "text/html; charset=utf-8" }).end("<html></html>");
    };
    const { url } = await serve(page);
    const directory = fetchDirectory(url);
    expect(await directory.size("gone")).toBeUndefined();
    expect(await directory.size("config.json")).toBeUndefined();
    await failure(directory.read("config.json"), FileFormatError);
  });

  test("reports the status of a failed request, and asks again the next time", async () => {
    let status = 503;
    const { url } = await serve((request, response) => {
      if (status === 200) small(request, response);
      else response.writeHead(status).end();
    });
    const directory = fetchDirectory(url);
    expect(String(await failure(directory.size("x")))).toMatch(/with status 503/);
    status = 403;
    expect(String(await failure(directory.size("x")))).toMatch(/with status 403[^]*`request`/);
    status = 200;
    expect(await directory.size("x")).toBe(1000);
  });

  test("names the file whose transfer breaks off", async () => {
    const { url } = await serve((request, response) => {
      response.writeHead(200, { "content-length": 1000 });
      if (request.method === "HEAD") response.end();
      else response.write(SMALL.slice(0, 100), () => response.destroy());
    });
    const error = await failure(fetchDirectory(url).read("weights"), FileFormatError);
    expect(error.message).toMatch(/weights cannot be fetched/);
  });

  test("refuses names with paths, invalid addresses and writing", async () => {
    const { url, requests } = await serve(small);
    const directory = fetchDirectory(url);
    for (const name of ["../secret", "a/b", "..", ""]) await failure(directory.size(name), FileFormatError);
    expect(requests).toEqual([]);
    await failure(directory.write("x", SMALL), FileFormatError);
    expect(() => fetchDirectory("model")).toThrow(ConfigError);
  });

  test("rejects an aborted request with the reason of its signal", async () => {
    const { url } = await serve(() => undefined);
    const request = { signal: AbortSignal.timeout(50) };
    expect((await failure(fetchDirectory(url, { request }).size("x"), Error)).name).toBe("TimeoutError");
  });
});
