import { createServer } from "node:http";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { ConfigError, FileFormatError } from "../../src/base/errors";
import { fetchDirectory } from "../../src/io/fetch-directory";
import type { FetchProgress } from "../../src/io/fetch-directory";

const LARGE = 64 * 2 ** 20 + 10;

let server: Server | undefined;
afterEach(() => {
  server?.closeAllConnections();
  server?.close();
});

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

/** Serves what a handler answers, and notes what was asked. */
async function served(handler: Handler): Promise<{ url: string; asked: string[] }> {
  const asked: string[] = [];
  server = createServer((request, response) => {
    asked.push(`${request.method} ${request.url} ${request.headers.range ?? ""}`.trim());
    handler(request, response);
  });
  await new Promise<void>((resolve) => server?.listen(0, "127.0.0.1", resolve));
  // A server that listens on a port has an address of this form.
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/model`, asked };
}

const SMALL = Uint8Array.from({ length: 1000 }, (_, i) => i % 251);

/** A file of LARGE bytes that is never whole anywhere: byte i is i % 251. */
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

const small: Handler = (request, response) => {
  response.writeHead(200, { "content-length": SMALL.length }).end(request.method === "HEAD" ? undefined : SMALL);
};

const failure = (work: Promise<unknown>): Promise<Error> =>
  work.then(
    () => new Error("nothing was thrown"),
    // Rejections here are always errors.
    (error: unknown) => error as Error,
  );

describe("fetchDirectory", () => {
  test("a small file is fetched once, with progress up to its size", async () => {
    const { url, asked } = await served(small);
    const seen: FetchProgress[] = [];
    const directory = fetchDirectory(url, { onProgress: (progress) => seen.push(progress) });
    expect(await directory.size("a b.bin")).toBe(1000);
    expect(await directory.read("a b.bin", 10, 20)).toEqual(SMALL.slice(10, 20));
    expect(await directory.read("a b.bin")).toEqual(SMALL);
    expect(asked).toEqual(["HEAD /model/a%20b.bin", "GET /model/a%20b.bin"]);
    expect(seen.at(-1)).toEqual({ file: "a b.bin", loaded: 1000, total: 1000 });
    expect(await directory.list()).toEqual(["a b.bin"]);
  });

  test("of a large file only the ranges that are read are fetched", async () => {
    const { url, asked } = await served((request, response) => large(request, response));
    const directory = fetchDirectory(url);
    expect(await directory.size("big")).toBe(LARGE);
    const part = await directory.read("big", 1_000_000, 1_000_500);
    expect(Array.from(part)).toEqual(Array.from({ length: 500 }, (_, i) => (1_000_000 + i) % 251));
    expect(asked).toEqual(["HEAD /model/big", "GET /model/big bytes=1000000-1000499"]);
    expect(await failure(directory.read("big", LARGE - 1, LARGE + 1))).toBeInstanceOf(FileFormatError);
  });

  test("a file that changes between two ranges is refused", async () => {
    const { url } = await served((request, response) =>
      large(request, response, request.headers.range?.includes("=0-") ? "v2" : "v1"),
    );
    const directory = fetchDirectory(url);
    await directory.read("big", 5, 10);
    expect(String(await failure(directory.read("big", 0, 10)))).toMatch(/changed while it was read/);
  });

  test("a part that is shorter or longer than asked for is refused", async () => {
    for (const length of [3, 30]) {
      const { url } = await served((request, response) => {
        if (request.method === "HEAD") response.writeHead(200, { "content-length": LARGE }).end();
        else response.writeHead(206).end(SMALL.slice(0, length));
      });
      const error = await failure(fetchDirectory(url).read("big", 0, 10));
      expect(error).toBeInstanceOf(FileFormatError);
      expect(error.message).toMatch(`${length} bytes of big`);
    }
  });

  test("a server without ranges, without HEAD or with compression serves whole files", async () => {
    const { url } = await served((request, response) => {
      if (request.method === "HEAD") response.writeHead(405).end();
      else response.writeHead(200).end(SMALL);
    });
    const directory = fetchDirectory(url);
    expect(await directory.size("x")).toBe(1000);
    expect(await directory.read("x", 1, 3)).toEqual(SMALL.slice(1, 3));
  });

  test("what is absent has no size; an application's page in its place counts as absent", async () => {
    const page: Handler = (request, response) => {
      if (request.url?.endsWith("gone")) response.writeHead(404).end();
      else response.writeHead(200, { "content-type": "text/html; charset=utf-8" }).end("<html></html>");
    };
    const { url } = await served(page);
    const directory = fetchDirectory(url);
    expect(await directory.size("gone")).toBeUndefined();
    expect(await directory.size("config.json")).toBeUndefined();
    expect(await failure(directory.read("config.json"))).toBeInstanceOf(FileFormatError);
  });

  test("refusals and failures of a server are told, and asked again the next time", async () => {
    let status = 503;
    const { url } = await served((request, response) => {
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

  test("a transfer that breaks off is an error that names the file", async () => {
    const { url } = await served((request, response) => {
      response.writeHead(200, { "content-length": 1000 });
      if (request.method === "HEAD") response.end();
      else response.write(SMALL.slice(0, 100), () => response.destroy());
    });
    const error = await failure(fetchDirectory(url).read("weights"));
    expect(error).toBeInstanceOf(FileFormatError);
    expect(error.message).toMatch(/weights cannot be fetched/);
  });

  test("names with paths, addresses that are none and writing are refused", async () => {
    const { url, asked } = await served(small);
    const directory = fetchDirectory(url);
    for (const name of ["../secret", "a/b", "..", ""]) {
      expect(await failure(directory.size(name)), name).toBeInstanceOf(FileFormatError);
    }
    expect(asked).toEqual([]);
    expect(await failure(directory.write("x", SMALL))).toBeInstanceOf(FileFormatError);
    expect(() => fetchDirectory("model")).toThrow(ConfigError);
  });

  test("an aborted request rejects with the signal's own reason", async () => {
    const { url } = await served(() => undefined);
    const request = { signal: AbortSignal.timeout(50) };
    expect((await failure(fetchDirectory(url, { request }).size("x"))).name).toBe("TimeoutError");
  });
});
