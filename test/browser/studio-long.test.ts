import { execFile } from "node:child_process";
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { encode } from "fast-png";
import { unzipSync } from "fflate";
import type { Page } from "playwright-core";
import { generate, loadAdapter, loadModel } from "safetape";
import { chatPrompt, loadTokenizer, memoryDirectory } from "safetape/data";
import * as v from "valibot";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { writeResults } from "../../bench/support/results";
import type { RunRecord } from "../../src/report/record";
import { useEngine } from "../support/engine";
import { useSharedFolder } from "../support/folder";
import { parseJson } from "../support/json";
import { TOKENIZERS, writeModel } from "../support/model-folder";
import { tiny } from "../support/tiny";
import {
  checkAccessible,
  giveData,
  goToTake,
  makeSmall,
  planExample,
  press,
  said,
  startStudio,
  take,
  takeRecord,
  TEST_MS,
  trainToEnd,
} from "./support/studio";
import type { StudioSession } from "./support/studio";

/** What takes too long for npm test. */
const isAsked = process.env["SAFETAPE_STUDIO"] === "all";

const path = useSharedFolder();
const engine = await useEngine();
const reviews = readFileSync("examples/data/sentiment/train.tsv", "utf8").split("\n");

/** Presses Tab until the focus is on something of this name. */
async function tabTo(page: Page, name: RegExp): Promise<void> {
  for (let i = 0; i < 120; i++) {
    await page.keyboard.press("Tab");
    const focused = await page.evaluate(() => {
      const element = document.activeElement;
      const hasLabels =
        element instanceof HTMLInputElement ||
        element instanceof HTMLSelectElement ||
        element instanceof HTMLTextAreaElement;
      const texts = hasLabels ? [...(element.labels ?? [])].map((label) => label.textContent) : [];
      return [...texts, element?.getAttribute("aria-label"), element?.textContent].join(" ").trim();
    });
    if (name.test(focused)) return;
  }
  throw new Error(`Tab does not lead to ${name.source}.`);
}

const losses = ({ steps }: RunRecord): number[] => steps.map(({ loss }) => loss);

async function enterOn(page: Page, name: RegExp): Promise<void> {
  await tabTo(page, name);
  await page.keyboard.press("Enter");
}

/** An event of Chromium's trace: a thread's name, or a task with its time on the processor in microseconds. */
const TRACE = v.object({
  traceEvents: v.array(
    v.object({
      name: v.string(),
      pid: v.number(),
      tid: v.number(),
      tdur: v.optional(v.number()),
      args: v.optional(v.object({ name: v.optional(v.unknown()) })),
    }),
  ),
});

/** Milliseconds of the processor that the longest task of a page's main thread took; other programs make its time on the clock longer. */
function longestTask(json: string): number {
  const { traceEvents } = v.parse(TRACE, parseJson(json));
  const mains = traceEvents.filter(({ name, args }) => name === "thread_name" && args?.name === "CrRendererMain");
  const isMain = ({ pid, tid }: { pid: number; tid: number }): boolean =>
    mains.some((main) => main.pid === pid && main.tid === tid);
  return traceEvents.reduce((most, event) => (isMain(event) ? Math.max(most, event.tdur ?? 0) : most), 0) / 1000;
}

describe.skipIf(!isAsked)("the studio (npm run test:studio)", { timeout: TEST_MS }, () => {
  let studio: StudioSession;
  beforeAll(async () => {
    studio = await startStudio();
    writeFileSync(path("reviews.tsv"), `${reviews.slice(0, 25).join("\n")}\n`);
    writeFileSync(path("many.tsv"), `${reviews.slice(0, 101).join("\n")}\n`);
  });
  const results: Record<string, unknown>[] = [];
  afterEach(({ task: { name, result } }) => {
    const seconds = Math.round((performance.now() - started) / 1000);
    results.push({ test: name, passed: (result?.errors ?? []).length === 0, seconds });
  });
  let started = 0;
  beforeEach(() => void (started = performance.now()));
  afterAll(async () => {
    await studio.close();
    await writeResults(engine, "studio", results);
  });

  it("goes on after a reload in the middle of training and after a lost GPU, to the same numbers as a run without either", async () => {
    const { page, problems } = await studio.open();
    await planExample(page, path("many.tsv"));
    await makeSmall(page, { batch: 2, steps: 45 });
    await press(page, "Train");
    await press(page, "Start training");
    await page.waitForFunction(() => Number(document.querySelector("progress")?.value) > 3);
    await press(page, "Pause");
    await said(page, /^Paused after step/);
    await page.reload();
    await page.click('[data-id="continue"]');
    await page.waitForFunction(() => Number(document.querySelector("progress")?.value) > 8);
    await studio.chromium.crashGpu();
    await page.waitForFunction(() =>
      document.querySelector(".notices")?.textContent.includes("The GPU was lost and is back"),
    );
    await said(page, /^Trained\. accuracy/);
    await goToTake(page);
    const interrupted = losses(await takeRecord(page));

    await page.click("nav button:has-text('Train')");
    await press(page, "Train again");
    await said(page, /^Trained\. accuracy/);
    await page.click("nav button:has-text('Take away')");
    const undisturbed = losses(await takeRecord(page));
    expect(interrupted).toHaveLength(45);
    expect(interrupted).toEqual(undisturbed);
    expect(problems).toEqual([]);
    await page.context().close();
  });

  it("repeats a run in Node by the program that is taken away, to the same losses", async () => {
    const { page } = await studio.open();
    await planExample(page, path("reviews.tsv"));
    await makeSmall(page, { batch: 8, steps: 3 });
    await trainToEnd(page);
    await goToTake(page);
    const expected = losses(await takeRecord(page));
    const folder = path("repeat");
    mkdirSync(join(folder, "node_modules"), { recursive: true });
    symlinkSync(process.cwd(), join(folder, "node_modules", "safetape"));
    for (const [name, bytes] of Object.entries(unzipSync(await take(page, "repeat"))))
      writeFileSync(join(folder, name), bytes);
    const args = [join(folder, "repeat.mjs"), resolve("examples/model")];
    const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: folder });
    const found = [...stdout.matchAll(/^\d+\/3 {2}loss (\S+)$/gm)].map(([, loss]) => Number(loss));
    expect(found).toHaveLength(3);
    found.forEach((loss, i) => expect(loss).toBeCloseTo(expected[i]!, 4));
    expect(stdout).toMatch(/dev loss [\d.]+, accuracy [\d.]+/);
    await page.context().close();
  });

  it("trains a model of images on a folder with a folder for each class", async () => {
    const folder = await writeModel(path("image-model"), tiny.vit());
    for (const name of ["dark", "light"]) {
      mkdirSync(path("images", name), { recursive: true });
      for (let i = 0; i < 8; i++) {
        const data = new Uint8Array(64).fill(name === "dark" ? 10 + i : 240 - i);
        writeFileSync(path("images", name, `${i}.png`), encode({ width: 8, height: 8, channels: 1, depth: 8, data }));
      }
    }
    writeFileSync(path("images", "dark", "broken.png"), "not a PNG");
    const { page, problems } = await studio.open();
    await page.setInputFiles('#model input[data-kind="folder"]', folder);
    await said(page, /image-model is open/);
    await press(page, "Next: data");
    await page.setInputFiles('#data input[data-kind="folder"]', path("images"));
    await said(page, /rows to learn from/);
    const data = await page.innerText("#data");
    expect(data).toMatch(/1 line is left out/);
    expect(data).toMatch(/images\/dark\/broken\.png/);
    expect(data).toMatch(/class light\s+7 rows/);
    await press(page, "Next: plan");
    await page.waitForSelector("#plan .layer");
    await trainToEnd(page);
    await press(page, "Next: try it");
    await page.setInputFiles('#try input[data-kind="files"]', path("images", "light", "0.png"));
    await page.waitForSelector("#try table:has-text('Probabilities')");
    await press(page, "Next: take it away");
    expect(Object.keys(unzipSync(await take(page, "adapter")))).toContain("adapter_model.safetensors");
    expect(problems).toEqual([]);
    await page.context().close();
  });

  it("trains a language model on plain text, and on a table of questions and answers", async () => {
    const folder = await writeModel(path("text-model"), tiny.gpt2({ vocab_size: 340, n_positions: 64 }), {
      tokenizer: TOKENIZERS.gpt2,
    });
    writeFileSync(path("text.txt"), `${Array.from({ length: 60 }, (_, i) => `line ${i} of a text`).join("\n")}\n`);
    const rows = Array.from({ length: 12 }, (_, i) => `"what, ${i}?",answer ${i}`);
    writeFileSync(path("answers.csv"), `${["question,answer", ...rows].join("\n")}\n`);
    const { page, problems } = await studio.open();
    await page.setInputFiles('#model input[data-kind="folder"]', folder);
    await said(page, /text-model is open/);
    await press(page, "Next: data");
    await giveData(page, [path("answers.csv")]);
    await page.getByLabel("What it learns").selectOption("answer");
    await page.waitForSelector("#data mark");
    expect(await page.locator("#data .rows li").first().innerText()).toMatch(/what.*answer/s);
    await giveData(page, [path("text.txt")]);
    await page.waitForFunction(() => document.querySelectorAll("#data mark").length > 20);
    await press(page, "Next: plan");
    await page.waitForSelector("#plan .layer");
    await trainToEnd(page);
    await press(page, "Next: try it");
    await page.getByLabel("A text to go on from").fill("line");
    await page.getByLabel("Most tokens of an answer").fill("4");
    await press(page, "Write");
    await said(page, /^Written/);
    expect((await page.locator(".answer").last().innerText()).length).toBeGreaterThan(0);
    expect(problems).toEqual([]);
    await page.context().close();
  });

  it("is used by keyboard alone, from the model to the adapter", async () => {
    const { page, problems } = await studio.open();
    await enterOn(page, /^Use the example: a small BERT/);
    await said(page, /is open/);
    await enterOn(page, /^Next: data/);
    await tabTo(page, /^Choose files/);
    const [chooser] = await Promise.all([page.waitForEvent("filechooser"), page.keyboard.press("Enter")]);
    await chooser.setFiles(path("reviews.tsv"));
    await said(page, /rows to learn from/);
    await enterOn(page, /^Next: plan/);
    await page.waitForSelector("#plan .layer");
    await tabTo(page, /^Rows of a batch/);
    for (let i = 0; i < 14; i++) await page.keyboard.press("ArrowLeft");
    await tabTo(page, /^Longest row/);
    await page.keyboard.press("Home");
    await tabTo(page, /^Epochs/);
    await page.keyboard.press("Home");
    await tabTo(page, /^Freezing/);
    await page.keyboard.press("n");
    await page.waitForFunction(() =>
      /steps\s*3expected/.test(document.querySelector("#plan .tiles")?.textContent ?? ""),
    );
    await enterOn(page, /^Train$/);
    await enterOn(page, /^Start training/);
    await said(page, /^Trained\. accuracy/);
    await enterOn(page, /^Next: try it/);
    await tabTo(page, /^A text/);
    await page.keyboard.type("the hotel was superb");
    await enterOn(page, /^Classify/);
    await page.waitForSelector("#try form table");
    await enterOn(page, /^Next: take it away/);
    await tabTo(page, /^Adapter/);
    const [download] = await Promise.all([page.waitForEvent("download"), page.keyboard.press("Enter")]);
    expect(download.suggestedFilename()).toBe("adapter.zip");
    expect(problems).toEqual([]);
    await page.context().close();
  });

  it("trains a chat model that was made on the fly, dropped as a folder, and writes as Node does", async () => {
    const sizes = { vocab_size: 340, max_position_embeddings: 128 };
    const folder = await writeModel(path("chat-model"), tiny.qwen2(sizes), { tokenizer: TOKENIZERS.gpt2 });
    const rows = Array.from({ length: 40 }, (_, i) => ({
      messages: [
        { role: "user", content: `say ${i % 4}` },
        { role: "assistant", content: ["one", "two", "three", "four"][i % 4] },
      ],
    }));
    const lines = [...rows.map((row) => JSON.stringify(row)), "{not JSON"];
    writeFileSync(path("chats.jsonl"), `${lines.join("\n")}\n`);
    const { page, problems } = await studio.open();
    await page.setInputFiles('#model input[data-kind="folder"]', folder);
    await said(page, /chat-model is open/);
    await press(page, "Next: data");
    await giveData(page, [path("chats.jsonl")]);
    expect(await page.innerText("#data")).toMatch(/chats\.jsonl\s+41\s+not JSON/);
    expect(await page.locator("#data mark").count()).toBeGreaterThan(5);
    await checkAccessible(page, "data of chats");
    await press(page, "Next: plan");
    await page.waitForSelector("#plan .layer");
    await press(page, "Train");
    await press(page, "Start training");
    await said(page, /^Trained\. perplexity/);
    await press(page, "Next: try it");
    await page.getByLabel("A message").fill("say 1");
    await page.getByLabel("Most tokens of an answer").fill("8");
    await press(page, "Answer");
    await said(page, /^Written/);
    const [before, after] = await page.locator(".answer").allInnerTexts();
    await press(page, "Next: take it away");
    const files = unzipSync(await take(page, "adapter"));
    expect(new TextDecoder().decode((await take(page, "gguf")).subarray(0, 4))).toBe("GGUF");

    using model = await loadModel(engine, folder);
    const weights = await loadAdapter(memoryDirectory("taken", files), model);
    const tokenizer = await loadTokenizer(folder);
    const prompt = chatPrompt([{ role: "user", content: "say 1" }], tokenizer);
    const { endIds } = tokenizer;
    const write = async (given?: typeof weights): Promise<string> => {
      const options = { maxNewTokens: 8, ...(endIds.length > 0 && { endIds }), ...(given && { weights: given }) };
      const [written] = await generate(model, [prompt], options);
      return tokenizer.decode(written!.ids).trim();
    };
    expect([before?.trim(), after?.trim()]).toEqual([await write(), await write(weights)]);
    expect(problems).toEqual([]);
    await page.context().close();
  });

  it("goes on without saving where the storage is full, and says so", async () => {
    const { page } = await studio.open();
    await planExample(page, path("many.tsv"));
    await makeSmall(page, { batch: 2, steps: 45 });
    await press(page, "Train");
    const { origin } = new URL(studio.server.url);
    const cdp = await page.context().newCDPSession(page);
    await cdp.send("Storage.overrideQuotaForOrigin", { origin, quotaSize: 200_000 });
    await press(page, "Start training");
    await page.waitForFunction(() => /storage is full/.test(document.querySelector(".notices")?.textContent ?? ""));
    await said(page, /^Trained\. accuracy/);
    await goToTake(page);
    expect(Object.keys(unzipSync(await take(page, "adapter")))).toContain("adapter_model.safetensors");
    await page.context().close();
  });

  it("trains in one tab at a time, and lists what is stored with buttons that delete it", async () => {
    const { page } = await studio.open();
    await planExample(page, path("many.tsv"));
    await makeSmall(page, { batch: 2, steps: 45 });
    await press(page, "Train");
    await press(page, "Start training");
    await page.waitForFunction(() => Number(document.querySelector("progress")?.value) > 1);
    await press(page, "Pause");
    await said(page, /^Paused/);
    const other = await page.context().newPage();
    await other.goto(studio.server.url);
    await other.waitForFunction(() =>
      document.querySelector(".faults")?.textContent.includes("Another tab is training"),
    );
    await planExample(other, path("reviews.tsv"));
    await press(other, "Train");
    await press(other, "Start training");
    await other.waitForSelector(".faults .fact");
    expect(await other.innerText(".faults .fact")).toBe("Another tab is training, and has the stored run.");
    await other.close();
    await press(page, "Stop and keep");
    await said(page, /^Stopped after step/);
    await page.click(".storage summary");
    await press(page, /^Delete the last run/);
    await page.waitForFunction(() => document.querySelector(".storage")?.textContent.includes("Nothing."));
    await page.context().close();
  });

  it("keeps a model in the browser, opens it after a reload, and fits a plan into a budget", async () => {
    const { page } = await studio.open();
    await page.setInputFiles('#model input[data-kind="folder"]', "examples/model");
    await said(page, /model is open/);
    await press(page, "Keep a copy in this browser");
    await said(page, /are stored/);
    await page.reload();
    await press(page, "Open model");
    await said(page, /model is open/);
    await press(page, "Next: data");
    await giveData(page, [path("reviews.tsv")]);
    await press(page, "Next: plan");
    await page.waitForSelector("#plan .layer");
    await makeSmall(page, { batch: 8, steps: 3 });
    await press(page, "Measure the time");
    await page.waitForFunction(() =>
      /expected time\s*[\d.]+ (?:s|min)/.test(document.querySelector("#plan .tiles")?.textContent ?? ""),
    );
    await page.getByLabel(/^GPU memory to fit into/).fill("0.005");
    await press(page, "Fit to my GPU");
    await said(page, /fits into 5/);
    await page.waitForFunction(
      () => Number(/([\d.]+) MB/.exec(document.querySelector("#plan h3")?.textContent ?? "")?.[1]) <= 5,
    );
    await page.getByLabel(/^GPU memory to fit into/).fill("0.0002");
    await press(page, "Fit to my GPU");
    await press(page, /^Use [\d.]+ GB/);
    await said(page, /fits into/);
    await page.context().close();
  });

  it("keeps the page free while it trains: no task of the main thread takes 50 ms of the processor", async () => {
    const { page } = await studio.open();
    await planExample(page, path("many.tsv"));
    await makeSmall(page, { batch: 2, steps: 45 });
    await press(page, "Train");
    await press(page, "Start training");
    await page.waitForFunction(() => Number(document.querySelector("progress")?.value) > 1);
    await studio.chromium.browser.startTracing(page, { categories: ["toplevel", "__metadata"] });
    await said(page, /^Trained\. accuracy/);
    const longest = longestTask((await studio.chromium.browser.stopTracing()).toString("utf8"));
    process.stdout.write(`longest task of the page's main thread: ${longest.toFixed(1)} ms of the processor\n`);
    expect(longest).toBeGreaterThan(0);
    expect(longest).toBeLessThan(50);
    await page.context().close();
  });

  it("trains on in a hidden tab, and shows the figures when it is seen again", async () => {
    const tab = await studio.chromium.openTab();
    await tab.goto(studio.server.url);
    await planExample(tab, path("reviews.tsv"));
    await makeSmall(tab, { batch: 8, steps: 3 });
    await press(tab, "Train");
    await press(tab, "Start training");
    const front = await studio.chromium.openTab();
    await front.bringToFront();
    await expect.poll(() => tab.evaluate(() => document.visibilityState)).toBe("hidden");
    const status = () => tab.evaluate(() => document.querySelector("[role=status]")?.textContent);
    await expect.poll(status, { timeout: 400_000, interval: 1000 }).toMatch(/^Trained\. accuracy/);
    expect(await tab.evaluate(() => document.visibilityState)).toBe("hidden");
    await tab.bringToFront();
    await expect.poll(() => tab.locator("#train .picture > svg").count()).toBeGreaterThanOrEqual(4);
    await front.close();
    await tab.close();
  });

  it("fetches a model from an address only when that is asked for", async () => {
    const { page, requests } = await studio.open();
    const asked: string[] = [];
    await page.context().route("https://huggingface.co/**", (route) => {
      const { pathname } = new URL(route.request().url());
      asked.push(`${pathname} ${route.request().headers()["authorization"] ?? ""}`);
      const file = /^\/owner\/tiny\/resolve\/main\/([\w.]+)$/.exec(pathname)?.[1];
      const files = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
      const headers = { "access-control-allow-origin": "*", "access-control-allow-headers": "*" };
      if (file === undefined || !files.includes(file)) return route.fulfill({ status: 404, headers });
      return route.fulfill({ path: join("examples/model", file), headers });
    });
    await page.click("summary:has-text('Or fetch one')");
    await page.getByLabel(/^Address/).fill("owner/tiny");
    await page.getByLabel(/^Token/).fill("secret-token");
    expect(requests.filter((url) => url.includes("huggingface"))).toEqual([]);
    await press(page, "Fetch");
    await said(page, /owner\/tiny is open/);
    expect(asked).toContain("/owner/tiny/resolve/main/config.json Bearer secret-token");
    const stored = await page.evaluate(() => JSON.stringify([Object.entries(localStorage), document.cookie]));
    expect(stored).not.toContain("secret");
    await page.getByLabel(/^Address/).fill("not an address");
    await press(page, "Fetch");
    await page.waitForFunction(() =>
      document.querySelector(".faults .fact")?.textContent.includes("neither an address"),
    );
    await page.context().close();
  });
});
