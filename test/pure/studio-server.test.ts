import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer, request } from "node:http";
import type { IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { networkInterfaces } from "node:os";
import { afterAll, beforeAll, expect, test } from "vitest";
import { serveStudio, STUDIO_POLICY } from "../../src/cli/studio/server";
import type { StudioServer } from "../../src/cli/studio/server";
import { failure } from "../support/failure";
import { useSharedFolder } from "../support/folder";

const path = useSharedFolder();
let server: StudioServer;
let port: number;

beforeAll(async () => {
  mkdirSync(path("studio/model"), { recursive: true });
  mkdirSync(path("other"));
  writeFileSync(path("studio/index.html"), "<!doctype html>page");
  writeFileSync(path("studio/page.js"), "script");
  writeFileSync(path("studio/model/config.json"), "{}");
  writeFileSync(path("studio/.hidden"), "hidden");
  writeFileSync(path("secret.txt"), "secret");
  writeFileSync(path("other/secret.txt"), "secret");
  symlinkSync(path("secret.txt"), path("studio/link.txt"));
  symlinkSync(path("other"), path("studio/linked"));
  symlinkSync(path("studio/page.js"), path("studio/inside.js"));
  server = await serveStudio(path("studio"), 0);
  port = Number(new URL(server.url).port);
});
afterAll(async () => {
  await server.close();
});

interface Answer {
  readonly status: number | undefined;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
}

/** Asks for exactly this path: clients would take dots out of it. */
async function ask(target: string, { method = "GET", host = `127.0.0.1:${port}` } = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = request({ host: "127.0.0.1", port, path: target, method, headers: { host } }, (response) => {
      let text = "";
      response.on("data", (piece: Buffer) => (text += piece.toString()));
      response.on("end", () => resolve({ status: response.statusCode, headers: response.headers, text }));
    });
    asked.on("error", reject).end();
  });
}

test("files of the folder are served, with a policy that allows the page's own scripts alone", async () => {
  const page = await ask("/");
  expect([page.status, page.text]).toEqual([200, "<!doctype html>page"]);
  expect(page.headers["content-security-policy"]).toBe(STUDIO_POLICY);
  expect(STUDIO_POLICY).toMatch(/script-src 'self';/);
  expect(page.headers["x-content-type-options"]).toBe("nosniff");
  expect(page.headers["access-control-allow-origin"]).toBeUndefined();
  const script = await ask("/page.js?version=1");
  expect([script.text, script.headers["content-type"]]).toEqual(["script", "text/javascript; charset=utf-8"]);
  expect((await ask("/model/config.json")).text).toBe("{}");
  const head = await ask("/page.js", { method: "HEAD" });
  expect([head.status, head.text, head.headers["content-length"]]).toEqual([200, "", "6"]);
});

test.each([
  "/../secret.txt",
  "/%2e%2e/secret.txt",
  "/..%2fsecret.txt",
  "/model/../../secret.txt",
  "/model/..%5c..%5csecret.txt",
  "/linked/secret.txt",
  "/link.txt",
  "/inside.js",
  "/.hidden",
  "//secret.txt",
  "/%00",
  "/%zz",
  "/model",
  "/nothing.js",
  "secret.txt",
])("%s is not a file of the folder", async (target) => {
  const { status, text } = await ask(target).catch(() => ({ status: 400, text: "" }));
  expect([400, 404]).toContain(status);
  expect(text).not.toContain("secret");
  expect(text).not.toContain("hidden");
});

test.each(["evil.example", "evil.example:80", "127.0.0.1", "localhost:1"])(
  "a request to %s is refused: a page of another site may lead its name here",
  async (host) => {
    const { status, text } = await ask("/", { host });
    expect([400, 421]).toContain(status);
    expect(text).not.toContain("doctype");
  },
);

test("the address by name is the same", async () => {
  expect((await ask("/", { host: `LOCALHOST:${port}` })).status).toBe(200);
});

test("nothing can be changed", async () => {
  for (const method of ["POST", "PUT", "DELETE", "OPTIONS"]) {
    expect((await ask("/page.js", { method })).status, method).toBe(405);
  }
});

test("it listens on the loopback address alone", async () => {
  const others = Object.values(networkInterfaces())
    .flatMap((all) => all ?? [])
    .filter(({ internal, family }) => !internal && family === "IPv4");
  for (const { address } of others) {
    const reached = await fetch(`http://${address}:${port}/`).then(
      () => true,
      () => false,
    );
    expect(reached, address).toBe(false);
  }
  expect(server.url).toBe(`http://127.0.0.1:${port}/`);
});

test("a port that is taken is said in two lines", async () => {
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
  // A server that listens on TCP has an AddressInfo.
  const taken = (other.address() as AddressInfo).port;
  const error = await failure(serveStudio(path("studio"), taken));
  expect(error.message).toMatch(
    new RegExp(`^Port ${taken} of 127.0.0.1 cannot be used: .*\\nGive another one: --port`),
  );
  await new Promise((resolve) => other.close(resolve));
  expect((await failure(serveStudio(path("studio"), 70_000))).message).toMatch(/^Port 70000/);
});
