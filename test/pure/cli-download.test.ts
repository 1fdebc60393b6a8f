import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it, vi } from "vitest";
import { runCli } from "../support/cli";
import { FakeHub } from "../support/hub";

const TOKEN = "hf_verySecretTokenOfAUser";
const text = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));
const hub = new FakeHub(
  new Map([
    ["config.json", text({ model_type: "bert" })],
    ["model.safetensors", new Uint8Array(50_000)],
  ]),
);
const folder = mkdtempSync(join(tmpdir(), "safetape-cli-download-"));

beforeAll(async () => {
  await hub.start();
  vi.stubEnv("HF_ENDPOINT", hub.url);
  vi.stubEnv("SAFETAPE_DEBUG", "1");
});
afterAll(async () => {
  vi.unstubAllEnvs();
  await hub.stop();
  rmSync(folder, { recursive: true });
});

it("safetape download: files, progress, and the token in nothing that is printed, errors with stacks included", async () => {
  const [tokenFile, out] = [join(folder, "token"), join(folder, "model")];
  writeFileSync(tokenFile, `${TOKEN}\n`);
  const args = ["download", "owner/model", "--out", out, "--token-file", tokenFile, "--json"];
  const good = await runCli(args);
  expect(good.code, good.stderr).toBe(0);
  expect(JSON.parse(good.stdout)).toMatchObject({ out, files: ["config.json", "model.safetensors"] });
  expect(good.stderr).toMatch(/model\.safetensors {2}0\.1\/0\.1 MB/);
  expect(readdirSync(out).sort()).toEqual(["config.json", "model.safetensors"]);
  expect(hub.seen.some(({ token }) => token === `Bearer ${TOKEN}`)).toBe(true);

  hub.refuse = { status: 401, headers: { "x-error-code": "GatedRepo" }, times: 9 };
  const bad = await runCli(args);
  expect(bad.code).toBe(1);
  expect(bad.stderr).toMatch(/the model owner\/model is gated \(401\)\naccept its terms/);
  expect(`${good.stdout}${good.stderr}${bad.stdout}${bad.stderr}`).not.toContain(TOKEN);
});
