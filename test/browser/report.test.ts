import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";
import type { Browser } from "playwright-core";
import { Engine, initialiseModel, lora, openDirectory, safe, Trainer } from "safetape";
import { readRunRecord, RunLog, saveReport } from "safetape/analysis";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { reportHtml } from "../../src/report/html";
import type { RunRecord } from "../../src/report/record";
import { showBytes } from "../../src/report/units";
import { testDevice } from "../support/device";
import { madeUpMatrices, madeUpRecord } from "../support/run-record";
import { tiny, tinyData } from "../support/tiny";
import { chromiumPath } from "./support/chromium";

let folder: string;
let browser: Browser;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "safetape-report-"));
  browser = await chromium.launch({ executablePath: chromiumPath(), args: ["--no-sandbox"] });
});
afterAll(async () => {
  await browser.close();
  rmSync(folder, { recursive: true, force: true });
});

/** Problems of labels: those that extend beyond their figure, and those that touch another one on the same axis. */
function labelProblems(): string[] {
  const problems: string[] = [];
  for (const svg of document.querySelectorAll("figure > svg")) {
    const frame = svg.getBoundingClientRect();
    for (const text of svg.querySelectorAll("text")) {
      const { left, right, top, bottom } = text.getBoundingClientRect();
      const isOut =
        left < frame.left - 1 || right > frame.right + 1 || top < frame.top - 1 || bottom > frame.bottom + 1;
      if (isOut) problems.push(`${text.textContent} is cut`);
    }
    for (const axis of svg.querySelectorAll('g[aria-label$="tick label"]')) {
      const labels = [...axis.querySelectorAll("text")].filter(({ textContent }) => textContent !== "");
      const boxes = labels.map((text) => text.getBoundingClientRect());
      boxes.forEach((a, i) => {
        const touches = (b: DOMRect): boolean =>
          a.left < b.right && b.left < a.right && a.top + 2 < b.bottom && b.top + 2 < a.bottom;
        if (boxes.slice(i + 1).some(touches)) problems.push(`${labels[i]?.textContent} touches another label`);
      });
    }
  }
  return problems;
}

const RUNS: readonly (readonly [string, RunRecord])[] = [
  ["SAFE", madeUpRecord()],
  ["many layers and steps", madeUpRecord({ steps: 3000, layers: 32, every: 40 })],
  ["matrices", madeUpMatrices()],
  ["one evaluation and no scores", { ...madeUpRecord(), evaluations: [], scores: [], metrics: { accuracy: 0.753769 } }],
];

/** Checks that a page has no errors, requests or bad labels in light, dark and print. Returns its text. */
async function checkPage(path: string, figures: number): Promise<string> {
  const page = await browser.newPage({ viewport: { width: 1000, height: 800 } });
  const errors: string[] = [];
  page.on("console", (message) => errors.push(message.text()));
  page.on("pageerror", (error) => errors.push(error.message));
  const requests: string[] = [];
  page.on("request", (request) => requests.push(request.url()));
  await page.goto(pathToFileURL(path).href);
  expect(
    requests.filter((url) => !url.startsWith("data:")),
    "requests",
  ).toHaveLength(1);
  const emulations = [{ colorScheme: "light" }, { colorScheme: "dark" }, { media: "print" }] as const;
  const backgrounds: string[] = [];
  for (const emulation of emulations) {
    await page.emulateMedia(emulation);
    backgrounds.push(await page.evaluate(() => getComputedStyle(document.body).backgroundColor));
    expect(await page.evaluate(labelProblems), JSON.stringify(emulation)).toEqual([]);
  }
  expect(backgrounds).toEqual(["rgb(255, 255, 255)", "rgb(21, 23, 26)", "rgb(255, 255, 255)"]);
  expect(await page.locator("figure > svg").count()).toBe(figures);
  const text = await page.locator("main").innerText();
  expect(errors).toEqual([]);
  await page.close();
  return text;
}

/** Trains a small model with SAFE and saves the report, as `safetape train` does. */
async function trainAndReport(out: string): Promise<void> {
  using engine = new Engine(await testDevice());
  using model = await initialiseModel(engine, tiny.bert(), { seed: 3 });
  const policy = safe({ every: 2, targetFreezeFraction: 0.5, tauT: 1 });
  const steps = 12;
  using trainer = await Trainer.create({ model, adapter: lora({ rank: 2 }), policy, data: tinyData(model), steps });
  const log = new RunLog();
  for await (const report of trainer.steps()) log.add(report);
  const { loss } = await trainer.evaluate([tinyData(model).next()]);
  const record = log.record(trainer, { title: "A run of twelve steps", metrics: { loss } });
  await saveReport(await openDirectory(out, { create: true }), record);
}

describe("the report in Chromium", () => {
  it.each(RUNS)("of %s opens without an error or a request, in light, dark and print", async (name, record) => {
    const path = join(folder, `${name}.html`);
    writeFileSync(path, reportHtml(record));
    await checkPage(path, 5);
  });

  it("of a real run shows what its record holds", async () => {
    const out = join(folder, "run");
    await trainAndReport(out);
    const { freezes, metrics, steps, peakBytes } = await readRunRecord(await openDirectory(out));
    const text = await checkPage(join(out, "report.html"), 5);
    expect(steps).toHaveLength(12);
    expect(freezes.length, "freezes").toBeGreaterThan(0);
    expect(text).toContain("A run of twelve steps");
    expect(text).toMatch(new RegExp(`loss\\s+${metrics["loss"]?.toFixed(4)}`));
    expect(text).toMatch(new RegExp(`peak GPU memory\\s+${showBytes(peakBytes)}`));
    for (const { step, returnedBytes } of freezes) {
      expect(text, `the freeze of step ${step}`).toMatch(new RegExp(`\\n${step}\\s.*${showBytes(returnedBytes)}`));
    }
  });

  it("fits a narrow screen without scrolling sideways", async () => {
    const path = join(folder, "narrow.html");
    writeFileSync(path, reportHtml(madeUpRecord()));
    const page = await browser.newPage({ viewport: { width: 380, height: 700 } });
    await page.goto(pathToFileURL(path).href);
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(380);
    await page.close();
  });
});
