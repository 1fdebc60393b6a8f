import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ConfigError, FileFormatError, UploadError } from "../../src/base/errors";
import { contentBytes } from "../../src/io/directory";
import { jsonBytes } from "../../src/io/json";
import { safetensorsContent } from "../../src/io/safetensors-write";
import { uploadModel } from "../../src/node/upload";
import type { UploadOptions } from "../../src/node/upload";
import { runCli } from "../support/cli";
import { failure } from "../support/failure";
import { useFolder } from "../support/folder";
import { UploadHub } from "../support/upload-hub";

const TOKEN = "hf_verySecretTokenOfAUser";
const path = useFolder();
let hub: UploadHub;

const data = Float32Array.from({ length: 4000 }, (_, i) => i / 7);
const WEIGHTS = await contentBytes(safetensorsContent([{ name: "a", shape: [4000], data }]));

const makeFolder = (name: string): void => {
  mkdirSync(path(name));
};
const write = (files: Readonly<Record<string, string | Uint8Array>>): void => {
  for (const [file, content] of Object.entries(files)) writeFileSync(path(file), content);
};

const ADAPTER = {
  "README.md": "---\nlibrary_name: peft\n---\n\n# An adapter\n",
  "adapter_config.json": jsonBytes({ peft_type: "LORA", base_model_name_or_path: "owner/base" }),
  "adapter_model.safetensors": WEIGHTS,
  "tokenizer.json": "{}",
};

beforeEach(async () => {
  hub = await new UploadHub().start();
  write({ ...ADAPTER, "run.json": "{}", "config.yaml": "model: /home/me\n" });
});
afterEach(() => hub.stop());

/** Uploads the folder. @param token null for none. */
const upload = ({
  token = TOKEN,
  ...options
}: Omit<UploadOptions, "token"> & { readonly token?: string | null } = {}) =>
  uploadModel(path(), "owner/model", {
    ...(token !== null && { token }),
    hubUrl: hub.url,
    pause: 1,
    create: true,
    ...options,
  });

describe("uploadModel", () => {
  it.each([0, 1000])("publishes an adapter in one commit, large files in parts of %s bytes", async (partBytes) => {
    hub.partBytes = partBytes;
    const { commit, files, left } = await upload({ message: "First", private: true });
    expect(commit).toBe("89abcdef".repeat(5));
    expect([...files].sort()).toEqual(Object.keys(ADAPTER).sort());
    expect(left).toEqual(["config.yaml", "run.json"]);
    const published = hub.published()!;
    expect([...published.keys()].sort()).toEqual(Object.keys(ADAPTER).sort());
    for (const [file, bytes] of published) expect(readFileSync(path(file)).equals(bytes), file).toBe(true);
    const { visibility, branches } = hub.repositories.get("owner/model")!;
    expect(visibility).toBe("private");
    expect(branches.get("main")!.messages).toEqual(["First"]);
    expect([...hub.tokens]).toEqual([`Bearer ${TOKEN}`]);
    expect(hub.requests.some((request) => request.includes(TOKEN))).toBe(false);
    // A second time: the repository is there, and the large file is known.
    hub.requests.length = 0;
    await upload({ branch: "more" });
    expect(hub.published("owner/model", "more")!.size).toBe(files.length);
    expect(hub.requests.filter((request) => request.includes("/store/"))).toEqual([]);
  });

  it("publishes a merged model with its shards", async () => {
    for (const file of ["adapter_config.json", "adapter_model.safetensors"]) rmSync(path(file));
    const index = { weight_map: { a: "model-00001-of-00001.safetensors" } };
    write({
      "config.json": jsonBytes({ model_type: "bert", _name_or_path: "/home/me/bert" }),
      "model-00001-of-00001.safetensors": WEIGHTS,
      "model.safetensors.index.json": jsonBytes(index),
      LICENSE: "MIT",
    });
    const warn = vi.fn();
    await upload({ warn });
    const names = ["LICENSE", "README.md", "config.json", "model-00001-of-00001.safetensors"];
    expect([...hub.published()!.keys()].sort()).toEqual([...names, "model.safetensors.index.json", "tokenizer.json"]);
    expect(warn.mock.calls.flat()).toEqual([
      "config.json has a path of another machine or this one: _name_or_path /home/me/bert",
    ]);
  });

  const config = (base: unknown) => ({ "adapter_config.json": jsonBytes({ base_model_name_or_path: base }) });
  it.each<[string, () => void, RegExp]>([
    ["no model card", () => rmSync(path("README.md")), /has no README\.md, the model card\.\nsaveAdapter/],
    ["no weights", () => rmSync(path("adapter_model.safetensors")), /no file adapter_model\.safetensors/],
    [
      "weights that are cut off",
      () => write({ "adapter_model.safetensors": WEIGHTS.slice(0, 5000) }),
      /truncated|bytes/,
    ],
    ["no configuration", () => rmSync(path("adapter_config.json")), /neither adapter_config\.json nor config\.json/],
    [
      "a path of the base",
      () => write(config("/home/me/bert")),
      /names its base model by a path: \/home\/me\/bert\.\nWrite OWNER/,
    ],
    ["a relative path", () => write(config("../bert")), /by a path: \.\.\/bert/],
    ["a deep path", () => write(config("models/of/mine")), /by a path: models\/of\/mine/],
    ["a run that has not ended", () => makeFolder("checkpoints"), /checkpoints is of a run that has not ended/],
    ["checkpoints of a Trainer", () => makeFolder("checkpoint-500"), /checkpoint-500 is of a run/],
  ])("sends nothing for a directory with %s", async (_, change, message) => {
    change();
    const error = await failure(upload(), FileFormatError);
    expect(error.message).toMatch(message);
    expect(hub.requests).toEqual([]);
  });

  it.each<[string, Parameters<typeof upload>[0], RegExp]>([
    ["without a token", { token: null }, /needs an access token/],
    ["with something else", { token: "password" }, /not one of the Hub's/],
    ["without encryption", { hubUrl: "http://example.com" }, /without encryption/],
    ["to a wrong branch", { branch: "a b" }, /not a revision/],
  ])("sends nothing %s", async (_, options, message) => {
    expect((await failure(upload(options), ConfigError)).message).toMatch(message);
    expect(hub.requests).toEqual([]);
  });

  it.each<[string, number, RegExp]>([
    ["/api/repos/create", 403, /may not be written with this token \(403\)/],
    ["/preupload/", 401, /may not be written with this token \(401\)/],
    ["/batch", 500, /answers 500\nnothing is published/],
    ["/store/", 503, /answers 503\nnothing is published/],
    ["/commit/", 412, /answers 412\nnothing is published/],
  ])("publishes nothing where %s answers %s", async (refused, status, message) => {
    hub.refuse = { path: refused, status, times: 99 };
    const error = await failure(upload(), UploadError);
    expect(error.message).toMatch(message);
    expect(error.message).not.toContain(TOKEN);
    expect(hub.published()?.size ?? 0).toBe(0);
  });

  it("repeats what may succeed later, and needs --create for what is not there", async () => {
    hub.refuse = { path: "/store/", status: 503, times: 3 };
    await upload();
    expect(hub.published()!.size).toBe(4);
    const create = false;
    expect((await failure(upload({ create, branch: "none" }), UploadError)).fact).toMatch(/this branch \(404\)/);
    hub.repositories.clear();
    expect((await failure(upload({ create }), UploadError)).message).toBe(
      "there is no model owner/model (404)\ncheck the name, or give --create",
    );
  });
});

describe("safetape upload", () => {
  it("takes the token of the usual file, says what it leaves out, and never prints the token", async () => {
    mkdirSync(path("home"));
    writeFileSync(path("home/token"), `${TOKEN}\n`);
    vi.stubEnv("HF_ENDPOINT", hub.url);
    vi.stubEnv("HF_HOME", path("home"));
    vi.stubEnv("HF_TOKEN", "");
    vi.stubEnv("SAFETAPE_DEBUG", "1");
    try {
      const args = ["upload", path(), "owner/model", "--create", "--message", "From here"];
      const done = await runCli(args);
      expect(done.code, done.stderr).toBe(0);
      expect(done.stdout).toMatch(
        /^owner\/model: README\.md, adapter_config\.json, .*; commit 89abcdef89ab of main\n$/,
      );
      expect(done.stderr).toContain("not uploaded: config.yaml, run.json");
      expect(hub.repositories.get("owner/model")!.branches.get("main")!.messages).toEqual(["From here"]);
      hub.refuse = { path: "/commit/", status: 403, times: 1 };
      const refused = await runCli(args);
      expect(refused).toMatchObject({ code: 1, stdout: "" });
      expect(refused.stderr).toMatch(/may not be written with this token \(403\)/);
      expect(`${done.stdout}${done.stderr}${refused.stderr}`).not.toContain(TOKEN);
      const wrong = await runCli(["upload", path()]);
      expect(wrong).toMatchObject({ code: 2, stdout: "" });
      expect((await runCli([...args.slice(0, 3), "--private"])).stderr).toMatch(/--private belongs to --create/);
    } finally {
      vi.unstubAllEnvs();
    }
  });
});
