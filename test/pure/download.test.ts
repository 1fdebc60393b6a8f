import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { DownloadError, SafetapeError, downloadModel, openDirectory } from "safetape";
import type { DownloadOptions } from "safetape";
import { openCheckpoint } from "../../src/io/checkpoint";
import { contentBytes } from "../../src/io/directory";
import { safetensorsContent } from "../../src/io/safetensors-write";
import { COMMIT, FakeHub } from "../support/hub";

const TOKEN = "hf_verySecretTokenOfAUser";
const text = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));
const shard = (name: string, size: number): Promise<Uint8Array> =>
  contentBytes(safetensorsContent([{ name, shape: [size], data: Float32Array.from({ length: size }, (_, i) => i) }]));
const WEIGHTS = await shard("a", 60_000);
const WHOLE = new Map([
  ["config.json", text({ model_type: "bert" })],
  ["model.safetensors", WEIGHTS],
  ["tokenizer.json", text({ model: {} })],
  ["README.md", text("not wanted")],
  ["pytorch_model.bin", text("a pickle")],
]);

let hub: FakeHub;
let out: string;
const printed: string[] = [];

const serve = async (...given: ConstructorParameters<typeof FakeHub>): Promise<void> => {
  await (hub as FakeHub | undefined)?.stop();
  hub = await new FakeHub(...given).start();
};
const download = (options: DownloadOptions = {}): ReturnType<typeof downloadModel> =>
  downloadModel("owner/model", out, { hubUrl: hub.url, pause: 1, attempts: 3, silence: 2000, ...options });
const failure = async (action: Promise<unknown>): Promise<SafetapeError> => {
  const error: unknown = await action.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(DownloadError);
  const { fact, remedy, stack } = error as SafetapeError;
  expect([fact.split("\n").length, remedy.split("\n").length]).toEqual([1, 1]);
  expect(`${stack} ${JSON.stringify(error)} ${String((error as Error).cause)}`).not.toContain(TOKEN);
  expect(`${fact}${remedy}`, "signed addresses").not.toContain("signature");
  return error as SafetapeError;
};
const files = (): string[] => readdirSync(out).sort();

beforeEach(async () => {
  out = mkdtempSync(join(tmpdir(), "safetape-download-"));
  printed.length = 0;
  for (const stream of [process.stdout, process.stderr]) {
    vi.spyOn(stream, "write").mockImplementation((chunk) => printed.push(String(chunk)) > 0);
  }
  await serve(WHOLE);
});
afterEach(async () => {
  vi.restoreAllMocks();
  expect(printed.join(""), "nothing is printed, least of all the token").toBe("");
  await hub.stop();
  rmSync(out, { recursive: true });
});

describe("downloadModel", () => {
  it("fetches what is read, and nothing else, from one commit", async () => {
    const told = await download({ revision: "v1.0" });
    expect(told).toMatchObject({ commit: COMMIT, files: ["config.json", "tokenizer.json", "model.safetensors"] });
    expect(told.bytes).toBe(told.fetchedBytes);
    expect(files()).toEqual(["config.json", "model.safetensors", "tokenizer.json"]);
    expect(readFileSync(join(out, "model.safetensors")).equals(WEIGHTS)).toBe(true);
    expect(hub.seen[0]?.path).toContain("/revision/v1.0");
    expect(hub.seen.slice(1).every(({ host, path }) => host === "store" || path.includes(COMMIT))).toBe(true);
  });

  it("fetches nothing twice, and anew what was changed", async () => {
    await download();
    writeFileSync(join(out, "tokenizer.json"), "{}");
    const again = await download();
    expect(again.fetchedBytes).toBe(WHOLE.get("tokenizer.json")?.length);
    expect(hub.seen.filter(({ host, range }) => host === "store" && range !== "bytes=0-0")).toHaveLength(1);
  });

  it("fetches shards that the index names, and refuses one outside", async () => {
    const index = (two: string): Uint8Array => text({ weight_map: { a: "one.safetensors", b: two } });
    const sharded = new Map([
      ["config.json", text({})],
      ["model.safetensors.index.json", index("two.safetensors")],
      ["one.safetensors", await shard("a", 500)],
      ["two.safetensors", await shard("b", 10)],
    ]);
    await serve(sharded);
    expect((await download()).files).toContain("two.safetensors");
    expect((await openCheckpoint(await openDirectory(out))).names()).toEqual(["a", "b"]);
    await serve(new Map([...sharded, ["model.safetensors.index.json", index("../two.safetensors")]]));
    await expect(download()).rejects.toThrow(/is not the name of a file/);
    await serve(new Map([...sharded, ["model.safetensors.index.json", index("three.safetensors")]]));
    expect((await failure(download())).fact).toMatch(/has no file "three.safetensors"/);
  });

  it("continues where the connection was lost, in the same call", async () => {
    hub.faults.push({ file: "model.safetensors", kind: "cut", after: 100_000, times: 2 });
    const progress: number[] = [];
    await download({ onProgress: ({ done }) => void progress.push(done) });
    expect(readFileSync(join(out, "model.safetensors")).equals(WEIGHTS)).toBe(true);
    const ranges = hub.seen
      .filter(({ host, range }) => host === "store" && range !== "bytes=0-0")
      .map(({ range }) => range);
    expect(ranges).toEqual([undefined, `bytes=100000-${WEIGHTS.length - 1}`, `bytes=200000-${WEIGHTS.length - 1}`]);
    const ofWeights = progress.slice(2);
    expect(ofWeights).toEqual([...ofWeights].sort((a, b) => a - b));
    expect(ofWeights.at(-1)).toBe(WEIGHTS.length);
  });

  it("keeps the partial file of a failed call, and the next one continues it", async () => {
    hub.faults.push({ file: "model.safetensors", kind: "cut", after: 70_000, times: 1 });
    hub.faults.push({ file: "model.safetensors", kind: "cut", after: 0, times: 3 });
    expect((await failure(download())).fact).toMatch(/lost at byte 70000 of the 240\d+ of model.safetensors/);
    expect(files()).toEqual([
      expect.stringMatching(/^\.model\.safetensors\.[0-9a-f]{16}\.part$/),
      "config.json",
      "tokenizer.json",
    ]);
    const { fetchedBytes } = await download();
    expect(fetchedBytes).toBe(WEIGHTS.length);
    expect(files()).toEqual(["config.json", "model.safetensors", "tokenizer.json"]);
    expect(hub.seen.at(-1)?.range).toBe(`bytes=70000-${WEIGHTS.length - 1}`);
  });

  it("requests the rest again after a silent connection", async () => {
    hub.faults.push({ file: "model.safetensors", kind: "silent", after: 5000, times: 1 });
    await download({ silence: 150 });
    expect(readFileSync(join(out, "model.safetensors")).equals(WEIGHTS)).toBe(true);
  });

  it("starts again if the server does not continue a file", async () => {
    hub.faults.push({ file: "model.safetensors", kind: "cut", after: 70_000, times: 1 });
    hub.faults.push({ file: "model.safetensors", kind: "no-range", times: 1 });
    await download();
    expect(readFileSync(join(out, "model.safetensors")).equals(WEIGHTS)).toBe(true);
  });

  it.each([
    ["a large file", "model.safetensors", /SHA-256/],
    ["a small file", "config.json", /SHA-1/],
  ])("removes %s whose bytes are wrong", async (_, file, fact) => {
    hub.faults.push({ file, kind: "flip", times: 1 });
    expect((await failure(download())).fact).toMatch(fact);
    expect(files().filter((name) => name.includes(file))).toEqual([]);
  });

  it("writes no byte beyond the size that is listed", async () => {
    hub.faults.push({ file: "model.safetensors", kind: "too-long", times: 3 });
    await failure(download());
    expect(files()).not.toContain("model.safetensors");
  });

  it("refuses a partial file that was tampered with", async () => {
    hub.faults.push({ file: "model.safetensors", kind: "cut", after: 70_000, times: 1 });
    hub.faults.push({ file: "model.safetensors", kind: "cut", times: 3 });
    await failure(download());
    const [part = ""] = files();
    writeFileSync(join(out, part), new Uint8Array(70_000));
    expect((await failure(download())).fact).toMatch(/SHA-256/);
    expect(files()).toEqual(["config.json", "tokenizer.json"]);
  });

  it("sends the token to the Hub alone", async () => {
    await download({ token: TOKEN });
    expect(hub.seen.filter(({ host }) => host === "hub").every(({ token }) => token === `Bearer ${TOKEN}`)).toBe(true);
    expect(hub.seen.filter(({ host }) => host === "store").map(({ token }) => token)).not.toContain(`Bearer ${TOKEN}`);
    expect(hub.seen.some(({ path }) => path.includes(TOKEN))).toBe(false);
  });

  it.each([
    [401, {}, /does not exist, or needs a token \(401\)/],
    [401, { "x-error-code": "GatedRepo" }, /is gated \(401\)/],
    [403, {}, /is gated \(403\)/],
    [404, { "x-error-code": "RevisionNotFound" }, /does not have this revision/],
    [404, {}, /there is no model owner\/model \(404\)/],
    [418, {}, /answers 418/],
    [503, {}, /answers 503/],
  ])("explains %s %o", async (status, headers, fact) => {
    hub.refuse = { status, headers, times: 9 };
    expect((await failure(download({ token: TOKEN }))).fact).toMatch(fact);
    expect(files()).toEqual([]);
  });

  it("waits as long as a server asks, but not for hours", async () => {
    hub.refuse = { status: 429, headers: { "retry-after": "1" }, times: 1 };
    const begin = performance.now();
    await download();
    expect(performance.now() - begin).toBeGreaterThan(990);
    hub.refuse = { status: 429, headers: { "retry-after": "7200" }, times: 1 };
    expect((await failure(download())).fact).toMatch(/asks to wait 7200 seconds/);
  });

  it("explains a server that is not there, and one that is no Hub", async () => {
    await hub.stop();
    expect((await failure(download())).fact).toMatch(/cannot be reached: ECONN/);
    await serve(new Map(), 1000);
    hub.refuse = { status: 200, times: 9 };
    expect((await failure(download())).fact).toMatch(/names no commit/);
  });

  it.each([
    ["no hash", { oid: undefined }, /lists no size and hash/],
    ["another size", { size: 7 }, /lists config.json with 7 bytes, but has \d+/],
    ["a size that is none", { size: 1e308 }, /lists no size and hash/],
  ])("refuses a listing with %s", async (_, told, fact) => {
    await serve(WHOLE, 1000, { "config.json": told });
    expect((await failure(download())).fact).toMatch(fact);
    expect(files()).toEqual([]);
  });

  it("refuses a model of pickles alone, and no model at all", async () => {
    await serve(new Map([...WHOLE].filter(([name]) => name !== "model.safetensors")));
    expect((await failure(download())).remedy).toMatch(/pickle, which is never loaded/);
    await serve(new Map([["README.md", text("x")]]));
    expect((await failure(download())).fact).toMatch(/has no config.json/);
  });

  it.each([
    ["../model", {}, /not the name of a model/],
    ["owner/..", {}, /not the name of a model/],
    ["owner/model?x", {}, /not the name of a model/],
    ["owner/model", { revision: "../../other" }, /not a revision/],
    ["owner/model", { token: "my password" }, /token is not one of the Hub's/],
    ["owner/model", { token: TOKEN, hubUrl: "http://example.com" }, /without encryption/],
    ["owner/model", { hubUrl: "file:///etc" }, /not an http or https address/],
  ])("refuses %s with %o before it asks anyone", async (repo, options, fact) => {
    const asked = downloadModel(repo, out, { hubUrl: hub.url, ...options });
    const error: unknown = await asked.catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(SafetapeError);
    expect((error as Error).message).toMatch(fact);
    expect((error as Error).message).not.toMatch(/hf_very|password/);
    expect(hub.seen).toEqual([]);
  });
});
