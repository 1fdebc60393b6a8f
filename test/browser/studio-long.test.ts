import { execFile, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { encode } from "fast-png";
import type { Page } from "playwright-core";
import { generate, loadAdapter, loadModel, openDirectory } from "safetape";
import type { AdapterWeights } from "safetape";
import { chatPrompt, loadTokenizer } from "safetape/data";
import type { ChatMessage } from "safetape/data";
import * as v from "valibot";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { startNats, whyNoNats } from "../../bench/distributed/nats-server";
import { writeResults } from "../../bench/support/results";
import { driverEnvironment, findDrivers } from "../../scripts/vulkan/drivers.mjs";
import type { RunRecord } from "../../src/report/record";
import { useEngine } from "../support/engine";
import { useSharedFolder } from "../support/folder";
import { parseJson } from "../support/json";
import { TOKENIZERS, writeModel } from "../support/model-folder";
import { tiny } from "../support/tiny";
import {
  checkAccessible,
  drop,
  giveData,
  giveModel,
  goToPlan,
  goToTake,
  lastResult,
  makeSmall,
  passes,
  planExample,
  press,
  said,
  shows,
  startStudio,
  startTraining,
  take,
  takeInto,
  takeRecord,
  TEST_MS,
  trainToEnd,
} from "./support/studio";
import type { StudioSession } from "./support/studio";
import { checkTaken } from "./support/taken";

/** What takes too long for npm test. */
const isAsked = process.env["SAFETAPE_STUDIO"] === "all";

const path = useSharedFolder();
/** Where what is taken away stays for Python (test/interop/studio.py). */
const kept = (name: string): string => {
  const folder = process.env["SAFETAPE_STUDIO_KEEP"];
  return folder === undefined ? path("taken", name) : join(folder, name);
};
/** A run of many short steps, and of few. */
const MANY = { batch: 2, steps: 45 };
const FEW = { batch: 8, steps: 3 };
const noNats = await whyNoNats();
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

/** Takes the programs away that repeat a run, into a folder in which Node finds this package. */
async function takePrograms(page: Page): Promise<string> {
  const folder = mkdtempSync(path("repeat-"));
  await takeInto(page, "repeat", folder);
  mkdirSync(join(folder, "node_modules"));
  symlinkSync(process.cwd(), join(folder, "node_modules", "safetape"));
  return folder;
}

/** The environment of a program on llvmpipe. */
function onLlvmpipe(): Record<string, string | undefined> {
  const llvmpipe = findDrivers().find(({ name }) => name === "llvmpipe");
  return { ...process.env, ...driverEnvironment(llvmpipe!), SAFETAPE_ADAPTER: "llvmpipe" };
}

/** Runs the Node program that was taken away. @returns what it prints, and the losses in it. */
async function repeated(folder: string, args: readonly string[], env = process.env) {
  const options = { cwd: folder, env };
  const { stdout } = await promisify(execFile)(process.execPath, [join(folder, "repeat.mjs"), ...args], options);
  const found = [...stdout.matchAll(/^\d+\/\d+ {2}loss (\S+)$/gm)].map(([, loss]) => Number(loss));
  return { stdout, found };
}

/** Runs the Node program that is taken away with a model, and compares its losses with the page's. */
async function checkRepeated(page: Page, model: string): Promise<void> {
  const expected = losses(await takeRecord(page));
  const { stdout, found } = await repeated(await takePrograms(page), [model]);
  expect(found).toHaveLength(expected.length);
  found.forEach((loss, i) => expect(loss).toBeCloseTo(expected[i]!, 4));
  expect(stdout).toMatch(/dev loss [\d.]+, accuracy [\d.]+/);
  const { bestStep } = await lastResult(page, v.object({ bestStep: v.number() }));
  expect(stdout).toContain(`kept the adapter of step ${bestStep}\n`);
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
    await planExample(page, path("many.tsv"), MANY);
    await startTraining(page);
    await passes(page, 3);
    await press(page, "Pause");
    await said(page, /^Paused after step/);
    await page.reload();
    await page.click('[data-id="continue"]');
    await passes(page, 8);
    await studio.chromium.crashGpu();
    await shows(page, ".notices", /The GPU was lost and is back/);
    await said(page, /^Trained\. accuracy/);
    await goToTake(page);
    const interrupted = await takeRecord(page);

    await page.click("nav button:has-text('Train')");
    await press(page, "Train again");
    await passes(page, 10);
    await press(page, "Stop and keep");
    await said(page, /^Stopped after step \d+\. accuracy/);
    // In the same page it goes on without its checkpoint, from the last step and not from the best evaluation.
    await press(page, "Go on from here");
    await said(page, /^Trained\. accuracy/);
    await page.click("nav button:has-text('Take away')");
    const stopped = await takeRecord(page);
    expect(losses(interrupted)).toHaveLength(MANY.steps);
    expect(losses(interrupted)).toEqual(losses(stopped));
    const best = interrupted.evaluations.find(({ step }) => step === interrupted.bestStep);
    expect(best?.metrics).toEqual(interrupted.metrics);
    const { accuracy = 0 } = interrupted.metrics;
    for (const { metrics } of interrupted.evaluations) expect(metrics["accuracy"]).toBeLessThanOrEqual(accuracy);
    expect(problems).toEqual([]);
    await page.context().close();
  });

  it("repeats a run in Node by the program that is taken away, to the same losses", async () => {
    const { page } = await studio.open();
    await planExample(page, path("reviews.tsv"), FEW);
    await trainToEnd(page);
    await goToTake(page);
    await checkTaken(engine, page, { model: "examples/model", folder: kept("classifier") });
    await checkRepeated(page, resolve("examples/model"));
    await page.context().close();
  });

  it.skipIf(noNats !== undefined)(
    `trains one run with a Node program of its own, over a NATS server${noNats === undefined ? "" : ` (left out: ${noNats})`}`,
    async () => {
      const server = await startNats();
      const { page, problems } = await studio.open();
      await planExample(page, path("reviews.tsv"), FEW);
      await trainToEnd(page);
      await goToTake(page);
      const alone = await takeRecord(page);
      const folder = await takePrograms(page);
      await page.click("nav button:has-text('Train')");
      await page.click("#train summary");
      await checkAccessible(page, "a run of several devices");
      await page.getByLabel("Address of the server").fill(server.websocket);
      await page.getByLabel("Name of the run").fill("studio");
      await page.getByLabel("Token of the run").fill("secret");
      await press(page, "Train again");
      const env = { ...onLlvmpipe(), SAFETAPE_RANK_TOKEN: "secret" };
      const [{ found }] = await Promise.all([
        repeated(folder, [resolve("examples/model"), server.address, "studio"], env),
        said(page, /^Trained\. accuracy/),
      ]);
      await page.click("nav button:has-text('Take away')");
      const shared = await takeRecord(page);
      expect(losses(shared), "losses of the page and of the program").toEqual(found);
      expect(found).toHaveLength(FEW.steps);
      found.forEach((loss, i) => expect(loss, `step ${i + 1}, alone and shared`).toBeCloseTo(losses(alone)[i]!, 4));
      for (const { step, wire } of shared.steps) expect(wire?.sent, `bytes of step ${step}`).toBeGreaterThan(0);
      expect(await page.innerText("body"), "the token").not.toContain("secret");
      expect(problems).toEqual([]);
      await page.context().close();
      await server.stop();
    },
  );

  it.skipIf(noNats !== undefined)(
    `trains on with one program of two after the other was killed${noNats === undefined ? "" : ` (left out: ${noNats})`}`,
    async () => {
      const server = await startNats();
      const { page, problems } = await studio.open();
      await planExample(page, path("many.tsv"), MANY);
      await trainToEnd(page);
      await goToTake(page);
      const alone = losses(await takeRecord(page));
      const [first, second] = [await takePrograms(page), await takePrograms(page)];
      await page.click("nav button:has-text('Train')");
      await page.click("#train summary");
      await page.getByLabel("Address of the server").fill(server.websocket);
      await page.getByLabel("Name of the run").fill("studio");
      await press(page, "Train again");
      const args = [resolve("examples/model"), server.address, "studio"];
      const killed = spawn(process.execPath, [join(first, "repeat.mjs"), ...args], { cwd: first, env: onLlvmpipe() });
      for await (const line of createInterface({ input: killed.stdout })) if (line.startsWith("5/")) break;
      killed.kill("SIGKILL");
      const [{ found }] = await Promise.all([repeated(second, args, onLlvmpipe()), said(page, /^Trained\. accuracy/)]);
      await page.click("nav button:has-text('Take away')");
      const shared = losses(await takeRecord(page));
      expect(shared).toHaveLength(MANY.steps);
      shared.forEach((loss, i) => expect(loss, `step ${i + 1}, alone and shared`).toBeCloseTo(alone[i]!, 3));
      expect(found.length, "steps of the program that joined").toBeGreaterThan(5);
      expect(shared.slice(-found.length), "losses of the page and of the program").toEqual(found);
      await takeInto(page, "adapter", path("shared"));
      const [own, other] = [path("shared"), join(second, "repeated")].map((folder) =>
        readFileSync(join(folder, "adapter_model.safetensors")),
      );
      expect(own!.equals(other!), "the adapters of page and program are equal to the bit").toBe(true);
      expect(problems).toEqual([]);
      await page.context().close();
      await server.stop();
    },
  );

  it("trains a model of images on a folder with a folder for each class, and repeats that in Node", async () => {
    const folder = await writeModel(path("image-model"), tiny.vit());
    const write = (part: string, name: string, i: number): void => {
      mkdirSync(path("images", part, name), { recursive: true });
      const data = new Uint8Array(64).fill(name === "dark" ? 10 + i : 240 - i);
      const png = encode({ width: 8, height: 8, channels: 1, depth: 8, data });
      writeFileSync(path("images", part, name, `${i}.png`), png);
    };
    for (const name of ["dark", "light"]) {
      for (let i = 0; i < 8; i++) write("train", name, i);
      for (let i = 8; i < 10; i++) write("test", name, i);
    }
    writeFileSync(path("images", "train", "dark", "broken.png"), "not a PNG");
    const { page, problems } = await studio.open();
    await giveModel(page, folder);
    await press(page, "Next: data");
    await page.setInputFiles('#data input[data-kind="folder"]', path("images"));
    await said(page, /rows to learn from/);
    const data = await page.innerText("#data");
    expect(data).toMatch(/1 line is left out/);
    expect(data).toMatch(/images\/train\/dark\/broken\.png/);
    expect(data).toMatch(/class light\s+8 rows/);
    expect(data).toMatch(/rows to evaluate on\s+4, of images\/test/);
    await goToPlan(page);
    await trainToEnd(page);
    await press(page, "Next: try it");
    await page.setInputFiles('#try input[data-kind="files"]', path("images", "train", "light", "0.png"));
    await page.waitForSelector("#try table:has-text('Probabilities')");
    await press(page, "Next: take it away");
    await checkTaken(engine, page, { model: folder, folder: kept("images") });
    await checkRepeated(page, folder);
    expect(problems).toEqual([]);
    await page.context().close();
  });

  it("trains a language model on plain text, and on a table of questions and answers", async () => {
    const folder = await writeModel(path("text-model"), tiny.gpt2({ vocab_size: 340, n_positions: 64 }), {
      tokenizer: TOKENIZERS.gpt2,
    });
    writeFileSync(path("text.txt"), `${Array.from({ length: 60 }, (_, i) => `line ${i} of a text`).join("\n")}\n`);
    const rows = Array.from({ length: 12 }, (_, i) => `answer ${i},"what, ${i}?"`);
    writeFileSync(path("answers.csv"), `${["reply text,question", ...rows].join("\n")}\n`);
    const { page, problems } = await studio.open();
    await giveModel(page, folder);
    await press(page, "Next: data");
    await giveData(page, [path("answers.csv"), path("reviews.tsv")]);
    expect(await page.innerText("#data")).toMatch(/Not read, as answers\.csv is: reviews\.tsv\./);
    await page.getByLabel("What it learns").selectOption("answer");
    await page.waitForSelector("#data mark");
    const first = page.locator("#data .rows li").first();
    expect(await first.innerText()).toMatch(/answer.*what/s);
    // The column that the other control has: the two change places.
    await page.getByLabel("Text", { exact: true }).selectOption({ label: "question" });
    await expect.poll(() => first.innerText(), { timeout: TEST_MS }).toMatch(/what.*answer/s);
    await giveData(page, [path("text.txt")]);
    await page.waitForFunction(() => document.querySelectorAll("#data mark").length > 20);
    await goToPlan(page);
    const plannedSteps = async (): Promise<string | undefined> =>
      /steps\s*(\d+)expected/.exec((await page.textContent("#plan .tiles")) ?? "")?.[1];
    // Shorter blocks are more: until the new plan is there, the page shows the old one.
    const before = await plannedSteps();
    await page.getByLabel(/^Longest row/).fill("16");
    await expect.poll(plannedSteps, { timeout: TEST_MS }).not.toBe(before);
    const steps = await plannedSteps();
    await trainToEnd(page);
    expect(await page.getAttribute("progress", "max")).toBe(steps);
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
    // Before the key is pressed, the browser must know that a test answers its dialog, which it hears of on another way than of the key.
    const chooser = page.waitForEvent("filechooser");
    await enterOn(page, /^Choose files/);
    await (await chooser).setFiles(path("reviews.tsv"));
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
    await shows(page, "#plan .tiles", /steps\s*3expected/);
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
    // Dropped as a user does it, not chosen.
    await drop(page, "#model .drop", [folder]);
    await said(page, /^chat-model is open/);
    await press(page, "Next: data");
    await drop(page, "#data .drop", [path("chats.jsonl")]);
    await said(page, /rows to learn from/);
    expect(await page.innerText("#data")).toMatch(/chats\.jsonl\s+41\s+not JSON/);
    expect(await page.locator("#data mark").count()).toBeGreaterThan(5);
    await checkAccessible(page, "data of chats");
    await goToPlan(page);
    await startTraining(page);
    await said(page, /^Trained\. perplexity/);
    await press(page, "Next: try it");
    await page.getByLabel("Most tokens of an answer").fill("8");
    const asked = ["say 1", "say 2"];
    for (const message of asked) {
      await page.getByLabel("A message").fill(message);
      await press(page, "Answer");
      await said(page, /^Written/);
    }
    const answers = (side: string): Promise<string[]> =>
      page.locator(`[aria-label="${side}"] .answer`).allTextContents();
    const [before, after] = [await answers("Before"), await answers("After")];
    await checkAccessible(page, "a conversation");
    await press(page, "New conversation");
    await expect.poll(() => page.locator(".answer").count()).toBe(0);
    await press(page, "Next: take it away");
    expect(new TextDecoder().decode((await take(page, "gguf")).subarray(0, 4))).toBe("GGUF");

    using model = await loadModel(engine, folder);
    const tokenizer = await loadTokenizer(folder);
    const { endIds } = tokenizer;
    /** Both turns, each after the answers before it. */
    const write = async (weights?: AdapterWeights): Promise<{ texts: string[]; prompt: number[]; ids: number[] }> => {
      const messages: ChatMessage[] = [];
      const texts: string[] = [];
      let prompt: number[] = [];
      let ids: number[] = [];
      for (const content of asked) {
        messages.push({ role: "user", content });
        prompt = [...chatPrompt(messages, tokenizer)];
        const options = { maxNewTokens: 8, ...(endIds.length > 0 && { endIds }), ...(weights && { weights }) };
        const [written] = await generate(model, [prompt], options);
        ids = [...written!.ids];
        texts.push(tokenizer.decode(ids).trimStart());
        messages.push({ role: "assistant", content: texts.at(-1)! });
      }
      return { texts, prompt, ids };
    };
    await takeInto(page, "adapter", path("chat-adapter"));
    const tuned = await write(await loadAdapter(await openDirectory(path("chat-adapter")), model));
    expect(before).toEqual((await write()).texts);
    expect(after).toEqual(tuned.texts);
    const { prompt, ids } = tuned;
    await checkTaken(engine, page, { model: folder, folder: kept("chat"), further: { prompt, continuation: ids } });
    expect(problems).toEqual([]);
    await page.context().close();
  });

  it("goes on without saving where the storage is full, says so, and loses nothing that was stored", async () => {
    const { page } = await studio.open();
    await giveModel(page, "examples/model");
    const { origin } = new URL(studio.server.url);
    const cdp = await page.context().newCDPSession(page);
    const limit = (quotaSize: number) => cdp.send("Storage.overrideQuotaForOrigin", { origin, quotaSize });
    await limit(1_000_000);
    await press(page, "Keep a copy in this browser");
    await shows(page, ".faults .fact", /storage is full/);
    await press(page, "Show what is stored");
    // No part of a model that did not fit.
    await shows(page, ".storage", /Nothing\./);
    await press(page, "Next: data");
    await giveData(page, [path("many.tsv")]);
    await goToPlan(page);
    await makeSmall(page, MANY);
    await limit(200_000);
    await startTraining(page);
    await shows(page, ".notices", /storage is full/);
    await said(page, /^Trained\. accuracy/);
    await goToTake(page);
    expect(await takeInto(page, "adapter", path("full"))).toContain("adapter_model.safetensors");
    await page.context().close();
  });

  it("trains in one tab at a time, and lists what is stored with buttons that delete it", async () => {
    const { page } = await studio.open();
    await planExample(page, path("many.tsv"), MANY);
    await startTraining(page);
    await passes(page, 1);
    await press(page, "Pause");
    await said(page, /^Paused/);
    const other = await page.context().newPage();
    await studio.openIn(other);
    await shows(other, ".offer", /Another tab is training/);
    await planExample(other, path("reviews.tsv"));
    await startTraining(other);
    await shows(other, ".faults .fact", /^Another tab is training, and has the stored run\.$/);
    await other.close();
    // While it trains, other steps change nothing, and say why.
    await page.click("nav button:has-text('Model')");
    await press(page, "Use the example: a small BERT");
    await shows(page, ".faults", /still under way/);
    await page.click("nav button:has-text('Train')");
    await press(page, "Stop and keep");
    await said(page, /^Stopped after step/);
    await page.click(".storage summary");
    await press(page, /^Delete the last run/);
    await shows(page, ".storage", /Nothing\./);
    await page.context().close();
  });

  it("stops a run that is still being opened, with what it began from", async () => {
    const { page } = await studio.open();
    await planExample(page, path("reviews.tsv"), FEW);
    await startTraining(page);
    await press(page, "Stop and keep");
    await said(page, /^Stopped after step [01]\. accuracy/);
    await press(page, "Go on from here");
    await said(page, /^Trained\. accuracy/);
    await goToTake(page);
    expect(losses(await takeRecord(page))).toHaveLength(FEW.steps);
    await page.context().close();
  });

  it("keeps a model in the browser, opens it after a reload, and fits a plan into a budget", async () => {
    const { page } = await studio.open();
    await giveModel(page, "examples/model");
    await press(page, "Keep a copy in this browser");
    await said(page, /are stored/);
    await page.reload();
    await press(page, "Open model");
    await said(page, /model is open/);
    await press(page, "Next: data");
    await giveData(page, [path("reviews.tsv")]);
    await goToPlan(page);
    await makeSmall(page, FEW);
    await press(page, "Measure the time");
    await shows(page, "#plan .tiles", /expected time\s*[\d.]+ (?:s|min)/);
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
    await planExample(page, path("many.tsv"), MANY);
    await startTraining(page);
    await passes(page, 1);
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
    await studio.openIn(tab);
    await planExample(tab, path("reviews.tsv"), FEW);
    await startTraining(tab);
    const front = await studio.chromium.openTab();
    await front.bringToFront();
    await expect.poll(() => tab.evaluate(() => document.visibilityState)).toBe("hidden");
    await said(tab, /^Trained\. accuracy/);
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
    await page.getByLabel(/^Address, or name/).fill("owner/tiny");
    await page
      .locator("#model")
      .getByLabel(/^Token/)
      .fill("secret-token");
    expect(requests.filter((url) => url.includes("huggingface"))).toEqual([]);
    await press(page, "Fetch");
    await said(page, /owner\/tiny is open/);
    expect(asked).toContain("/owner/tiny/resolve/main/config.json Bearer secret-token");
    const stored = await page.evaluate(() => JSON.stringify([Object.entries(localStorage), document.cookie]));
    expect(stored).not.toContain("secret");
    await page.getByLabel(/^Address, or name/).fill("not an address");
    await press(page, "Fetch");
    await shows(page, ".faults .fact", /neither an address/);
    await page.context().close();
  });
});
