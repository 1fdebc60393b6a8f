import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "tsup";
import { afterEach, beforeEach, expect, it } from "vitest";
import { Batches, Engine, fixed, initialiseModel, lora, Trainer } from "safetape";
import type { BrowserRun, Told } from "../browser/run";
import { testDevice } from "../support/device";

const FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu-sandbox", "--enable-unsafe-webgpu"];

const RUN: BrowserRun = {
  config: {
    ...{ model_type: "bert", vocab_size: 30, hidden_size: 16, num_hidden_layers: 3, num_attention_heads: 2 },
    ...{ intermediate_size: 32, max_position_embeddings: 16, num_labels: 2 },
  },
  samples: Array.from({ length: 8 }, (_, i) => ({ ids: [1, 2 + i, 3 + 2 * i, 4], label: i % 2 })),
  freezes: [{ beforeStep: 2, tensors: ["layer.0."] }],
  steps: 4,
};

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "safetape-browser-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function chromiumPath(): string {
  const candidates = [
    process.env["CHROME_PATH"],
    "/usr/bin/chromium",
    "/usr/bin/google-chrome",
    "/usr/bin/chromium-browser",
  ];
  const found = candidates.find((path) => path !== undefined && existsSync(path));
  if (found !== undefined) return found;
  throw new Error("No Chromium was found.\nInstall it (Debian: apt-get install chromium), or set CHROME_PATH.");
}

/** Serves the page and waits for what it tells. */
async function inChromium(page: string): Promise<Told & { readonly error?: string }> {
  let settle: (body: string) => void = () => undefined;
  const told = new Promise<string>((resolve) => (settle = resolve));
  const server = createServer((request, response) => {
    if (request.url === "/result") {
      const parts: Buffer[] = [];
      request.on("data", (part: Buffer) => parts.push(part));
      request.on("end", () => settle(Buffer.concat(parts).toString()));
      response.end();
    } else if (request.url === "/run.json") response.end(JSON.stringify(RUN));
    else if (request.url === "/page.js") response.setHeader("content-type", "text/javascript").end(page);
    else response.setHeader("content-type", "text/html").end('<script type="module" src="/page.js"></script>');
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const flags = [...FLAGS, "--use-webgpu-adapter=swiftshader", `--user-data-dir=${join(folder, "profile")}`];
  const chromium = spawn(chromiumPath(), [...flags, `http://127.0.0.1:${port}/`], { stdio: "ignore" });
  const ended = new Promise<never>((_, reject) => {
    chromium.once("error", reject);
    chromium.once("exit", (code) => reject(new Error(`Chromium ended with ${code} before the page told anything.`)));
  });
  try {
    return JSON.parse(await Promise.race([told, ended])) as Told;
  } finally {
    ended.catch(() => undefined);
    chromium.kill("SIGKILL");
    server.close();
  }
}

async function inNode(): Promise<readonly number[]> {
  using engine = new Engine(await testDevice());
  using model = await initialiseModel(engine, RUN.config);
  const samples = RUN.samples.map(({ ids, label }) => ({ ids: Int32Array.from(ids), label }));
  const data = new Batches(samples, { size: 4, shuffle: false });
  const own = { policy: fixed(RUN.freezes), steps: RUN.steps, dropout: false };
  using trainer = await Trainer.create({ model, adapter: lora({ rank: 2 }), data, ...own });
  return (await trainer.train()).losses;
}

it("the same core trains in a browser: losses as in Node, the ledger as planned, nothing left", async () => {
  await build({
    ...{ config: false, entry: { page: "test/browser/page.ts" }, outDir: folder, format: "esm", platform: "browser" },
    ...{ target: "es2022", loader: { ".wgsl": "text" }, noExternal: [/.*/], splitting: false, silent: true },
  });
  const told = await inChromium(readFileSync(join(folder, "page.js"), "utf8"));
  expect(told.error).toBeUndefined();
  const losses = await inNode();
  expect(told.losses).toHaveLength(losses.length);
  told.losses.forEach((loss, i) => expect(loss, `loss of step ${i + 1}`).toBeCloseTo(losses[i] as number, 5));
  expect(told.live, "ledger against plan").toEqual(told.planned);
  expect(told.left, "bytes left in the page's ledger").toBe(0);
  expect(told.cached).toEqual([{ class: { chosen: "portable", tried: ["portable"] } }, "nothing"]);
});
