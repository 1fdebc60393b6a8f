import { readdirSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, expect, it, vi } from "vitest";
import { jsonBytes } from "../../src/io/json";
import { runCli } from "../support/cli";
import { useFolder } from "../support/folder";
import { FakeHub } from "../support/hub";

const TOKEN = "hf_verySecretTokenOfAUser";
const hub = new FakeHub(
  new Map([
    ["config.json", jsonBytes({ model_type: "bert" })],
    ["model.safetensors", new Uint8Array(50_000)],
  ]),
);
const path = useFolder();

beforeAll(async () => {
  await hub.start();
  vi.stubEnv("HF_ENDPOINT", hub.url);
  vi.stubEnv("SAFETAPE_DEBUG", "1");
});
afterAll(async () => {
  vi.unstubAllEnvs();
  await hub.stop();
});

it("safetape download prints files and progress, and never the token, not even in stack traces", async () => {
  const [tokenFile, out] = [path("token"), path("model")];
  writeFileSync(tokenFile, `${TOKEN}\n`);
  const args = ["download", "owner/model", "--out", out, "--token-file", tokenFile, "--json"];
  const downloaded = await runCli(args);
  expect(downloaded.code, downloaded.stderr).toBe(0);
  expect(JSON.parse(downloaded.stdout)).toMatchObject({ out, files: ["config.json", "model.safetensors"] });
  expect(downloaded.stderr).toMatch(/model\.safetensors {2}0\.1\/0\.1 MB/);
  expect(readdirSync(out).sort()).toEqual(["config.json", "model.safetensors"]);
  expect(hub.requests.some(({ token }) => token === `Bearer ${TOKEN}`)).toBe(true);

  hub.refuse = { status: 401, headers: { "x-error-code": "GatedRepo" }, times: 9 };
  const refused = await runCli(args);
  expect(refused.code).toBe(1);
  expect(refused.stderr).toMatch(/the model owner\/model is gated \(401\)\naccept the terms/);
  expect(`${downloaded.stdout}${downloaded.stderr}${refused.stdout}${refused.stderr}`).not.toContain(TOKEN);
});
