import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { unzipSync } from "fflate";
import { chromium } from "playwright-core";
import { classify, loadAdapter, loadModel } from "safetape";
import { loadTokenizer, memoryDirectory } from "safetape/data";
import * as v from "valibot";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { useEngine } from "../support/engine";
import { useSharedFolder } from "../support/folder";
import { chromiumPath } from "./support/chromium";
import {
  checkAccessible,
  checkWidth,
  giveData,
  goToPlan,
  lastResult,
  makeSmall,
  openExample,
  planExample,
  press,
  shows,
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
/** Decimals of logits that must agree between the page and Node. */
const LOGIT_DIGITS = 4;

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
  mkdirSync(path("broken"));
  for (const file of ["config.json", "tokenizer.json", "tokenizer_config.json"])
    copyFileSync(join("examples/model", file), path("broken", file));
  writeFileSync(path("broken/model.safetensors"), "not a model");
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
    await goToPlan(page);
    const before = await page.innerText("#plan h3");
    await makeSmall(page, { batch: 8, steps: 3 });
    expect(await page.innerText("#plan h3")).not.toBe(before);
    await check("plan");
    await trainToEnd(page);
    expect(await page.innerText("#train .tiles")).toMatch(/step\s+3 of 3/);
    // Each figure is drawn in a frame of its own, so that some come after the run's last word.
    await page.locator("#train .picture > svg").nth(3).waitFor();
    await check("train");
    await press(page, "Next: try it");
    await page.getByLabel("A text").fill("the hotel was superb");
    await press(page, "Classify");
    await page.waitForSelector("#try form table");
    const shown = await page.locator("#try form tbody td:last-child").allInnerTexts();
    const scores = await lastResult(page, v.array(v.object({ name: v.string(), base: v.number(), tuned: v.number() })));
    expect(shown).toEqual(scores.map(({ tuned }) => `${(100 * tuned).toFixed(1)} %`));
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
    const inNode = async (options: { readonly adapter?: typeof adapter }): Promise<readonly number[]> => {
      const [classified] = await classify(model, ["the hotel was superb"], { tokenizer, ...options });
      return classified!.probabilities.map((share) => Math.log(share));
    };
    // Logarithms of probabilities are logits but for a constant.
    const [untrained, after] = [await inNode({}), await inNode({ adapter })];
    scores.forEach(({ base, tuned }, i) => {
      expect(Math.log(base)).toBeCloseTo(untrained[i]!, LOGIT_DIGITS);
      expect(Math.log(tuned)).toBeCloseTo(after[i]!, LOGIT_DIGITS);
    });

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

  it("says what is wrong with a folder, and with files that teach nothing or something else, and loses nothing", async () => {
    const { page, problems } = await studio.open();
    const refuses = async (input: string, given: string, fault: RegExp): Promise<void> => {
      await page.setInputFiles(input, given);
      await shows(page, ".faults", fault);
      await press(page, "Close");
    };
    const [folder, file] = ['#model input[data-kind="folder"]', '#data input[data-kind="files"]'];
    await refuses(folder, path("empty"), /There is no config\.json in empty\. It has notes\.txt\./);
    await refuses(folder, path("unknown"), /model_type "mamba2" is not supported\.\s*Supported families: bert/);
    await refuses(folder, path("broken"), /model\.safetensors/);
    await openExample(page);
    await press(page, "Next: data");
    const files = [
      [
        "chats.jsonl",
        '{"messages": [{"role": "user", "content": "a"}]}\n',
        /these files teach a model to write answers, and this bert can learn to classify texts/,
      ],
      ["EMPTY.CSV", "", /EMPTY\.CSV in the given files is empty/],
      ["one.csv", "text\na\nb\n", /one\.csv has one column, and a row needs a text and its class/],
      ["notes.pdf", "%PDF", /nothing here reads notes\.pdf/],
    ] as const;
    for (const [name, text, fault] of files) {
      writeFileSync(path(name), text);
      await refuses(file, path(name), fault);
    }
    await giveData(page, [path("reviews.tsv")]);
    await refuses(file, path("one.csv"), /one column/);
    // What was read before is still there.
    expect(await page.innerText("#data")).toMatch(/rows to learn from\s+22/);
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
