import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { unzipSync } from "fflate";
import { chromium } from "playwright-core";
import { classify, loadAdapter, loadModel } from "safetape";
import { loadTokenizer, memoryDirectory } from "safetape/data";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { useEngine } from "../support/engine";
import { useSharedFolder } from "../support/folder";
import { chromiumPath } from "./support/chromium";
import {
  checkAccessible,
  checkWidth,
  giveData,
  makeSmall,
  openExample,
  planExample,
  press,
  startStudio,
  take,
  takeRecord,
  TEST_MS,
  trainToEnd,
} from "./support/studio";
import type { StudioSession } from "./support/studio";

const path = useSharedFolder();
const engine = await useEngine();
let studio: StudioSession;

/** Rows of the example's reviews. */
const reviews = readFileSync("examples/data/sentiment/train.tsv", "utf8").split("\n");
const NARROW = { width: 380, height: 700 };

beforeAll(async () => {
  studio = await startStudio();
  writeFileSync(
    path("reviews.tsv"),
    `${[...reviews.slice(0, 10), "a line without a class", ...reviews.slice(10, 25)].join("\n")}\n`,
  );
  mkdirSync(path("empty"));
  writeFileSync(path("empty/notes.txt"), "no model");
  mkdirSync(path("unknown"));
  writeFileSync(path("unknown/config.json"), JSON.stringify({ model_type: "mamba2" }));
});
afterAll(async () => {
  await studio.close();
});

describe("the studio", { timeout: TEST_MS }, () => {
  it("leads from a model and a file with a bad line to an adapter that Node loads, on a narrow screen", async () => {
    const { page, problems, requests } = await studio.open({ viewport: NARROW });
    const check = async (where: string): Promise<void> => {
      await checkAccessible(page, where);
      await checkWidth(page, where);
    };
    await openExample(page);
    expect(await page.innerText("#model .tiles")).toMatch(/family\s+bert/);
    await check("model");
    await press(page, "Next: data");
    await giveData(page, [path("reviews.tsv")]);
    const data = await page.innerText("#data");
    expect(data).toMatch(/1 line is left out/);
    expect(data).toMatch(/reviews\.tsv\s+11\s+1 column, not 2/);
    expect(data).toMatch(/rows to learn from\s+22/);
    expect(data).toMatch(/rows to evaluate on\s+2/);
    expect(await page.locator("#data .rows li").first().innerText()).toMatch(/^(?:negative|positive)\s*\[CLS\]/);
    expect(await page.locator("#data figure > svg").count()).toBe(1);
    await check("data");
    await press(page, "Next: plan");
    await page.waitForSelector("#plan .layer");
    const before = await page.innerText("#plan h3");
    await makeSmall(page, { batch: 8, steps: 3 });
    expect(await page.innerText("#plan h3")).not.toBe(before);
    await check("plan");
    await trainToEnd(page);
    expect(await page.innerText("#train .tiles")).toMatch(/step\s+3 of 3/);
    expect(await page.locator("#train .picture > svg").count()).toBeGreaterThanOrEqual(4);
    await check("train");
    await press(page, "Next: try it");
    await page.getByLabel("A text").fill("the hotel was superb");
    await press(page, "Classify");
    await page.waitForSelector("#try form table");
    const shown = await page.locator("#try form tbody td:last-child").allInnerTexts();
    await page.waitForSelector("#try table:has-text('Confusion')");
    await check("try");
    await press(page, "Next: take it away");
    await check("take away");

    const files = unzipSync(await take(page, "adapter"));
    expect(Object.keys(files).sort()).toEqual(
      ["README.md", "adapter_config.json", "adapter_model.safetensors", "report.html", "run.json"].sort(),
    );
    using model = await loadModel(engine, "examples/model");
    const adapter = await loadAdapter(memoryDirectory("taken", files), model);
    const tokenizer = await loadTokenizer("examples/model");
    const [classified] = await classify(model, ["the hotel was superb"], { adapter, tokenizer });
    expect(shown).toEqual(classified!.probabilities.map((share) => `${(100 * share).toFixed(1)} %`));

    const record = await takeRecord(page);
    expect(record.steps).toHaveLength(3);
    expect(record.metrics).toHaveProperty("accuracy");
    expect(new TextDecoder().decode(await take(page, "report"))).toContain("LoRA on reviews.tsv");
    const merged = unzipSync(await take(page, "merged"));
    expect(Object.keys(merged)).toEqual(expect.arrayContaining(["config.json", "model.safetensors", "tokenizer.json"]));
    const repeat = unzipSync(await take(page, "repeat"));
    expect(new TextDecoder().decode(repeat["train.jsonl"]).trim().split("\n")).toHaveLength(22);

    expect(problems).toEqual([]);
    // Nothing but the studio's own files was ever asked for.
    expect(requests.filter((url) => !url.startsWith(studio.server.url) && !url.startsWith("blob:"))).toEqual([]);
    await page.context().close();
  });

  it("says what is wrong with a folder, and with files that teach something else, and loses nothing", async () => {
    const { page, problems } = await studio.open();
    const faultOf = async (): Promise<string> => {
      await page.waitForSelector(".faults .fact");
      return page.innerText(".faults");
    };
    await page.setInputFiles('#model input[data-kind="folder"]', path("empty"));
    expect(await faultOf()).toMatch(/There is no config\.json in empty\. It has notes\.txt\./);
    await page.setInputFiles('#model input[data-kind="folder"]', path("unknown"));
    await page.waitForFunction(() => document.querySelector(".faults")?.textContent.includes("mamba2"));
    expect(await faultOf()).toMatch(/model_type "mamba2" is not supported\.\s+Supported families: bert/);
    await openExample(page);
    expect(await page.locator(".faults .fact").count()).toBe(0);
    await press(page, "Next: data");
    writeFileSync(path("chats.jsonl"), '{"messages": [{"role": "user", "content": "a"}]}\n');
    await page.setInputFiles('#data input[data-kind="files"]', path("chats.jsonl"));
    expect(await faultOf()).toMatch(
      /these files teach a model to write answers, and this bert can learn to classify texts/,
    );
    await giveData(page, [path("reviews.tsv")]);
    expect(problems).toEqual([]);
    await page.context().close();
  });

  it("says what to do in this browser where there is no WebGPU, and plans all the same", async () => {
    const plain = await chromium.launch({ executablePath: chromiumPath(), args: ["--no-sandbox", "--disable-gpu"] });
    const page = await plain.newPage();
    await page.goto(studio.server.url);
    await page.waitForSelector("#model .fact");
    expect(await page.innerText("#model .fact")).toMatch(
      /^Training needs WebGPU\..*In Chrome or Edge, turn on graphics/,
    );
    await planExample(page, path("reviews.tsv"));
    expect(await page.innerText("#plan h3")).toMatch(/GPU memory of a step: [\d.]+ MB/);
    await plain.close();
  });
});
