import { mkdirSync, mkdtempSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Engine, loadAdapter, loadModel, openDirectory, Trainer } from "safetape";
import { GOLDEN_LIMITS, readBatches, readCase, runOptions } from "../../scripts/golden-file";
import { testDevice } from "../support/device";
import { writeGoldenStart } from "../support/golden-start";
import { publishedFolder } from "../support/published";
import type { PublishedPage } from "./pages/published";
import { tinyRun } from "./pages/tiny-run";
import type { TinyRun } from "./pages/tiny-run";
import { caller, startSession } from "./support/session";
import type { Caller, Session } from "./support/session";
import { isLong, itLong } from "../support/long";

/** The golden run whose adapter is also saved as downloads. */
const DOWNLOADED = "bert-lora";
/** Golden runs of the families that differ most, or all in `npm run bench:browser`: Node runs all of them on the same driver. */
const UNLIKE = new Set([DOWNLOADED, "gpt2-full", "llama-ia3", "flan-t5-lora", "vit-lora"]);
/** Those of `npm test`. */
const FEW = new Set([DOWNLOADED, "flan-t5-lora"]);
const ALL = process.env["SAFETAPE_BROWSER_CASES"] === "all";
const GOLDEN = [DOWNLOADED, ...readdirSync("test/golden").filter((name) => name !== DOWNLOADED)].filter(
  (name) => ALL || (isLong ? UNLIKE : FEW).has(name),
);
const GUIDE = readFileSync("docs/guide/browsers.md", "utf8");
/** Far above the time of a page's ten steps, which kernels take nearly all of. */
const WHOLE_MS = 600_000;
const LARGE = 100 * 2 ** 20;
/** Decimals of losses and logits that must agree between Chromium and Node. */
const RUN_DIGITS = 5;

let session: Session;
let page: Page;
let call: Caller<PublishedPage>;
let nodeRun: TinyRun;

beforeAll(async () => {
  publishedFolder();
  session = await startSession(["published", "worker"], (request, response) => {
    if (request.url !== "/large/large.bin") return false;
    const [, from = "0", to = "0"] = /bytes=(\d+)-(\d+)/.exec(request.headers.range ?? "") ?? [];
    const isHead = request.method === "HEAD";
    response.writeHead(isHead ? 200 : 206, { "content-length": isHead ? LARGE : Number(to) - Number(from) + 1 });
    response.end(isHead ? undefined : Buffer.alloc(Number(to) - Number(from) + 1, Number(from) % 251));
    return true;
  });
  for (const name of GOLDEN) await writeGoldenStart(name, session.files);
  page = await session.open("published");
  call = caller<PublishedPage>(page);
  using engine = new Engine(await testDevice());
  nodeRun = await tinyRun(engine);
});
afterAll(() => session.close());

function expectSameRun(run: TinyRun): void {
  expect(run.freezes, "freezes").toEqual(nodeRun.freezes);
  expect(run.losses).toHaveLength(nodeRun.losses.length);
  run.losses.forEach((loss, i) => {
    expect(loss, `loss of step ${i + 1}`).toBeCloseTo(nodeRun.losses[i]!, RUN_DIGITS);
  });
  expect(run.live, "ledger against plan").toEqual(run.planned);
  expect(run.left, "bytes left in the ledger").toBe(0);
}

describe("the published bundle in Chromium", () => {
  it.each(GOLDEN)("golden run of float64 PyTorch: %s", async (name) => {
    const errors = await call("golden", [name]);
    expect(errors.loss).toBeLessThanOrEqual(GOLDEN_LIMITS.loss);
    expect(errors.final).toBeLessThanOrEqual(GOLDEN_LIMITS.final);
    expect(errors.left, "bytes left in the ledger").toBe(0);
  });

  it("trains with SAFE as Node does: losses, freezes, ledger as planned, nothing left", async () => {
    expect(nodeRun.freezes.length, "freezes in Node").toBeGreaterThan(0);
    expectSameRun(await call("safeRun", []));
  });

  it("trains in a module worker", async () => {
    const { run, forbidden, error } = await call("inWorker", []);
    expect(error).toBeUndefined();
    expect(forbidden, "outcome of eval in the worker").toBe("EvalError");
    expectSameRun(run!);
  });

  it("continues after its device is lost during a run", async () => {
    expectSameRun(await call("recovered", []));
  });

  it("keeps the results of a tuner in IndexedDB", async () => {
    expect(await call("tuning", [])).toEqual([{ class: { chosen: "portable", tried: ["portable"] } }, "nothing"]);
  });

  it("loads a model and a tokenizer by fetch, with progress", async () => {
    const { progress, ids, layers } = await call("load", []);
    const weights = progress.filter(({ file }) => file === "model.safetensors");
    expect(weights.length, "pieces").toBeGreaterThan(2);
    weights.slice(1).forEach(({ loaded }, i) => expect(loaded).toBeGreaterThan(weights[i]?.loaded ?? Infinity));
    expect(weights.at(-1)?.loaded).toBe(weights.at(-1)?.total);
    expect(ids.length).toBeGreaterThan(3);
    expect(layers).toBe(4);
  });

  it("reads a range of a file of 100 MiB", async () => {
    expect(await call("range", ["/large", 1000, 1004])).toEqual(Array(4).fill(1000 % 251));
  });

  it("saves an adapter as downloads that Node loads again, to the same logits", async () => {
    const name = DOWNLOADED;
    const folder = mkdtempSync(join(session.files, "downloads-"));
    const saved: Promise<void>[] = [];
    page.on("download", (file) => saved.push(file.saveAs(join(folder, file.suggestedFilename()))));
    const { predictions, files } = await call("download", [name]);
    await expect.poll(() => saved.length).toBe(files.length);
    await Promise.all(saved);
    expect(readdirSync(folder).sort()).toEqual(["README.md", "adapter_config.json", "adapter_model.safetensors"]);
    const logits = await logitsInNode(name, folder);
    expect(logits).toHaveLength(predictions.length);
    logits.forEach((value, i) => expect(value).toBeCloseTo(predictions[i]!, RUN_DIGITS));
  });

  itLong("gives the same losses in a hidden, throttled tab, where no wait depends on timers", async () => {
    const tab = await session.open("published", await session.chromium.openTab());
    const front = await session.chromium.openTab();
    await front.bringToFront();
    await expect.poll(() => tab.evaluate(() => document.visibilityState)).toBe("hidden");
    const { hidden, timerMs, runMs, run } = await caller<PublishedPage>(tab)("timed", []);
    expect(hidden).toBe(true);
    expect(timerMs, "eight timers of 20 ms, throttled").toBeGreaterThan(2_000);
    process.stdout.write(`hidden tab: 8 timers ${Math.round(timerMs)} ms, a run of 8 steps ${Math.round(runMs)} ms\n`);
    expectSameRun(run);
    await tab.close();
    await front.close();
  });

  it(
    "runs the guide's complete page, which no bundler has seen",
    async () => {
      const [html, script] = ["html", "js browser"].map((kind) => blockOf(GUIDE, kind));
      const folder = join(session.files, "guide");
      mkdirSync(join(folder, "models"), { recursive: true });
      writeFileSync(join(folder, "index.html"), html!);
      writeFileSync(join(folder, "train.js"), script!);
      symlinkSync(resolve("dist"), join(folder, "dist"));
      symlinkSync(resolve("examples/model"), join(folder, "models", "bert"));
      const problems: string[] = [];
      const guide = await session.chromium.browser.newPage();
      guide.on("pageerror", ({ message }) => problems.push(message));
      await guide.goto(`${session.url}/files/guide/index.html`);
      const links = guide.locator("a[download]");
      await expect.poll(() => links.allTextContents(), { timeout: WHOLE_MS }).toContain("adapter_model.safetensors");
      expect(await guide.innerText("#status")).toMatch(/^step 10, loss 0\.\d+/);
      expect(problems).toEqual([]);
      await guide.close();
    },
    WHOLE_MS,
  );

  it("obeys a strict Content-Security-Policy: nothing was refused, while eval was", async () => {
    expect(await call("policy", [])).toEqual({ forbidden: "EvalError", violations: [] });
  });

  it("rejects with DeviceError after device.destroy() during a run; a new engine trains as before", async () => {
    const { name, error, again } = await call("loss", ["destroy"]);
    expect(name).toBe("DeviceError");
    expect(error).toMatch(/lost[^]*\n.*engine/);
    expectSameRun(again);
  });

  itLong("rejects with DeviceError if the driver crashes during a run; a new engine trains as before", async () => {
    const crashing = await session.open("published");
    await crashing.exposeFunction("atSecondStep", () => session.chromium.crashGpu());
    const { name, error, again } = await caller<PublishedPage>(crashing)("loss", ["crash"]);
    expect(name).toBe("DeviceError");
    expect(error).toMatch(/lost/);
    expectSameRun(again);
  });
});

/** The first block of this kind in a page of the guide. */
function blockOf(text: string, kind: string): string {
  const [, code] = new RegExp(`^\`\`\`${kind}\\n([^]*?)^\`\`\`$`, "m").exec(text) ?? [];
  if (code !== undefined) return code;
  throw new Error(`The guide has no block ${kind}.`);
}

async function logitsInNode(name: string, folder: string): Promise<number[]> {
  using engine = new Engine(await testDevice());
  const directory = await openDirectory(`test/golden/${name}`);
  const goldenCase = await readCase(directory);
  using model = await loadModel(engine, directory);
  const { adapter, tensors } = await loadAdapter(await openDirectory(folder), model);
  const batches = await readBatches(directory, goldenCase, model.model.maxLength);
  using trainer = await Trainer.create({ model, adapter, initial: tensors, ...runOptions(goldenCase, batches) });
  const logits: number[] = [];
  await trainer.evaluate([batches[0]!], (_batch, values) => logits.push(...values));
  return logits;
}
