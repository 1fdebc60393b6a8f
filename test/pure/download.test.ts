import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { openDirectory } from "safetape";
import { DownloadError } from "safetape/engine";
import { downloadModel } from "safetape/data";
import type { DownloadOptions } from "safetape/data";
import { openCheckpoint } from "../../src/io/checkpoint";
import { contentBytes } from "../../src/io/directory";
import { jsonBytes } from "../../src/io/json";
import { safetensorsContent } from "../../src/io/safetensors-write";
import { failure } from "../support/failure";
import { useFolder } from "../support/folder";
import { COMMIT, FakeHub } from "../support/hub";

const TOKEN = "hf_verySecretTokenOfAUser";
const shard = (name: string, size: number): Promise<Uint8Array> =>
  contentBytes(safetensorsContent([{ name, shape: [size], data: Float32Array.from({ length: size }, (_, i) => i) }]));
const WEIGHTS = await shard("a", 60_000);
const MODEL_FILES = new Map([
  ["config.json", jsonBytes({ model_type: "bert" })],
  ["model.safetensors", WEIGHTS],
  ["tokenizer.json", jsonBytes({ model: {} })],
  ["README.md", jsonBytes("not needed")],
  ["pytorch_model.bin", jsonBytes("a pickle")],
]);

const path = useFolder();
let hub: FakeHub;
const printed: string[] = [];

const serve = async (...args: ConstructorParameters<typeof FakeHub>): Promise<void> => {
  // Undefined until the first call.
  await (hub as FakeHub | undefined)?.stop();
  hub = await new FakeHub(...args).start();
};
const download = (options: DownloadOptions = {}): ReturnType<typeof downloadModel> =>
  downloadModel("owner/model", path(), { hubUrl: hub.url, pause: 1, attempts: 3, silence: 2000, ...options });
/** The error of a download, which never contains the token or a signed address. */
const downloadFailure = async (work: Promise<unknown>): Promise<DownloadError> => {
  const error = await failure(work, DownloadError);
  const { fact, remedy, stack, cause } = error;
  expect(fact.split("\n"), "lines of the fact").toHaveLength(1);
  expect(`${stack} ${JSON.stringify(error)} ${String(cause)}`).not.toContain(TOKEN);
  expect(`${fact}${remedy}`, "signed addresses").not.toContain("signature");
  return error;
};
const files = (): string[] => readdirSync(path()).sort();

beforeEach(async () => {
  printed.length = 0;
  for (const stream of [process.stdout, process.stderr]) {
    vi.spyOn(stream, "write").mockImplementation((chunk) => printed.push(String(chunk)) > 0);
  }
  await serve(MODEL_FILES);
});
afterEach(async () => {
  vi.restoreAllMocks();
  expect(printed.join(""), "output, where nothing may be printed").toBe("");
  await hub.stop();
});

describe("downloadModel", () => {
  it("fetches the files that safetape reads, and no others, from one commit", async () => {
    const result = await download({ revision: "v1.0" });
    expect(result).toMatchObject({ commit: COMMIT, files: ["config.json", "tokenizer.json", "model.safetensors"] });
    expect(result.bytes).toBe(result.fetchedBytes);
    expect(files()).toEqual(["config.json", "model.safetensors", "tokenizer.json"]);
    expect(readFileSync(path("model.safetensors")).equals(WEIGHTS)).toBe(true);
    expect(hub.requests[0]?.path).toContain("/revision/v1.0");
    expect(hub.requests.slice(1).every(({ host, path }) => host === "store" || path.includes(COMMIT))).toBe(true);
  });

  it("fetches no file twice, except a file that has changed", async () => {
    await download();
    writeFileSync(path("tokenizer.json"), "{}");
    const second = await download();
    expect(second.fetchedBytes).toBe(MODEL_FILES.get("tokenizer.json")?.length);
    expect(hub.requests.filter(({ host, range }) => host === "store" && range !== "bytes=0-0")).toHaveLength(1);
  });

  it("fetches what says how texts are read, and a SentencePiece model where there is no tokenizer.json", async () => {
    const texts = ["chat_template.jinja", "generation_config.json", "special_tokens_map.json", "tokenizer_config.json"];
    const more = [...texts, "spiece.model"].map((file) => [file, jsonBytes({})] as const);
    await serve(new Map([...MODEL_FILES, ...more]));
    await download();
    expect(files()).toEqual(["config.json", "model.safetensors", "tokenizer.json", ...texts].sort());
    await serve(new Map([...MODEL_FILES, ...more].filter(([file]) => file !== "tokenizer.json")));
    expect((await download()).files).toContain("spiece.model");
  });

  it("fetches the shards of an index, and refuses one outside of the folder", async () => {
    const index = (two: string): Uint8Array => jsonBytes({ weight_map: { a: "one.safetensors", b: two } });
    const sharded = new Map([
      ["config.json", jsonBytes({})],
      ["model.safetensors.index.json", index("two.safetensors")],
      ["one.safetensors", await shard("a", 500)],
      ["two.safetensors", await shard("b", 10)],
    ]);
    await serve(sharded);
    expect((await download()).files).toContain("two.safetensors");
    expect((await openCheckpoint(await openDirectory(path()))).names()).toEqual(["a", "b"]);
    await serve(new Map([...sharded, ["model.safetensors.index.json", index("../two.safetensors")]]));
    await expect(download()).rejects.toThrow(/is not a valid name for a file/);
    await serve(new Map([...sharded, ["model.safetensors.index.json", index("three.safetensors")]]));
    expect((await downloadFailure(download())).fact).toMatch(/has no file "three.safetensors"/);
  });

  it("continues where the connection was lost, in the same call", async () => {
    hub.faults.push({ file: "model.safetensors", kind: "cut", after: 100_000, times: 2 });
    const progress: number[] = [];
    await download({ onProgress: ({ done }) => void progress.push(done) });
    expect(readFileSync(path("model.safetensors")).equals(WEIGHTS)).toBe(true);
    const ranges = hub.requests
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
    expect((await downloadFailure(download())).fact).toMatch(/lost at byte 70000 of the 240\d+ of model.safetensors/);
    expect(files()).toEqual([
      expect.stringMatching(/^\.model\.safetensors\.[0-9a-f]{16}\.part$/),
      "config.json",
      "tokenizer.json",
    ]);
    const { fetchedBytes } = await download();
    expect(fetchedBytes).toBe(WEIGHTS.length);
    expect(files()).toEqual(["config.json", "model.safetensors", "tokenizer.json"]);
    expect(hub.requests.at(-1)?.range).toBe(`bytes=70000-${WEIGHTS.length - 1}`);
  });

  it("requests the rest again after a silent connection", async () => {
    hub.faults.push({ file: "model.safetensors", kind: "silent", after: 5000, times: 1 });
    await download({ silence: 150 });
    expect(readFileSync(path("model.safetensors")).equals(WEIGHTS)).toBe(true);
  });

  it("starts again if the server does not continue a file", async () => {
    hub.faults.push({ file: "model.safetensors", kind: "cut", after: 70_000, times: 1 });
    hub.faults.push({ file: "model.safetensors", kind: "no-range", times: 1 });
    await download();
    expect(readFileSync(path("model.safetensors")).equals(WEIGHTS)).toBe(true);
  });

  it.each([
    ["a large file", "model.safetensors", /SHA-256/],
    ["a small file", "config.json", /SHA-1/],
  ])("removes %s whose bytes are wrong", async (_, file, fact) => {
    hub.faults.push({ file, kind: "flip", times: 1 });
    expect((await downloadFailure(download())).fact).toMatch(fact);
    expect(files().filter((name) => name.includes(file))).toEqual([]);
  });

  it("writes no byte beyond the size that is listed", async () => {
    hub.faults.push({ file: "model.safetensors", kind: "too-long", times: 3 });
    await downloadFailure(download());
    expect(files()).not.toContain("model.safetensors");
  });

  it("refuses a partial file that was tampered with", async () => {
    hub.faults.push({ file: "model.safetensors", kind: "cut", after: 70_000, times: 1 });
    hub.faults.push({ file: "model.safetensors", kind: "cut", times: 3 });
    await downloadFailure(download());
    const [part = ""] = files();
    writeFileSync(path(part), new Uint8Array(70_000));
    expect((await downloadFailure(download())).fact).toMatch(/SHA-256/);
    expect(files()).toEqual(["config.json", "tokenizer.json"]);
  });

  it("sends the token to the Hub alone", async () => {
    await download({ token: TOKEN });
    expect(hub.requests.filter(({ host }) => host === "hub").every(({ token }) => token === `Bearer ${TOKEN}`)).toBe(
      true,
    );
    expect(hub.requests.filter(({ host }) => host === "store").map(({ token }) => token)).not.toContain(
      `Bearer ${TOKEN}`,
    );
    expect(hub.requests.some(({ path }) => path.includes(TOKEN))).toBe(false);
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
    expect((await downloadFailure(download({ token: TOKEN }))).fact).toMatch(fact);
    expect(files()).toEqual([]);
  });

  it("waits as long as a server asks, up to a limit", async () => {
    hub.refuse = { status: 429, headers: { "retry-after": "1" }, times: 1 };
    const begin = performance.now();
    await download();
    expect(performance.now() - begin).toBeGreaterThan(990);
    hub.refuse = { status: 429, headers: { "retry-after": "7200" }, times: 1 };
    expect((await downloadFailure(download())).fact).toMatch(/asks to wait 7200 seconds/);
  });

  it("explains a server that does not answer, and one that is not a Hub", async () => {
    await hub.stop();
    expect((await downloadFailure(download())).fact).toMatch(/cannot be reached: ECONN/);
    await serve(new Map(), 1000);
    hub.refuse = { status: 200, times: 9 };
    expect((await downloadFailure(download())).fact).toMatch(/names no commit/);
  });

  it.each([
    ["no hash", { oid: undefined }, /lists no size and hash/],
    ["another size", { size: 7 }, /lists config.json with 7 bytes, but has \d+/],
    ["an impossible size", { size: 1e308 }, /lists no size and hash/],
  ])("refuses a listing with %s", async (_, entry, fact) => {
    await serve(MODEL_FILES, 1000, { "config.json": entry });
    expect((await downloadFailure(download())).fact).toMatch(fact);
    expect(files()).toEqual([]);
  });

  it("refuses a model that has only pickles, and a repository without a model", async () => {
    await serve(new Map([...MODEL_FILES].filter(([name]) => name !== "model.safetensors")));
    expect((await downloadFailure(download())).remedy).toMatch(/pickle, which is never loaded/);
    await serve(new Map([["README.md", jsonBytes("x")]]));
    expect((await downloadFailure(download())).fact).toMatch(/has no config.json/);
  });

  it.each([
    ["../model", {}, /not the name of a model/],
    ["owner/..", {}, /not the name of a model/],
    ["owner/model?x", {}, /not the name of a model/],
    ["owner/model", { revision: "../../other" }, /not a revision/],
    ["owner/model", { token: "my password" }, /token is not one of the Hub's/],
    ["owner/model", { token: TOKEN, hubUrl: "http://example.com" }, /without encryption/],
    ["owner/model", { hubUrl: "file:///etc" }, /not an http or https address/],
  ])("refuses %s with %o before any request", async (repo, options, fact) => {
    const error = await failure(downloadModel(repo, path(), { hubUrl: hub.url, ...options }));
    expect(error.message).toMatch(fact);
    expect(error.message).not.toMatch(/hf_very|password/);
    expect(hub.requests).toEqual([]);
  });
});
