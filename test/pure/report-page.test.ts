import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { reportHtml } from "../../src/report/html";
import type { RunRecord } from "../../src/report/record";
import { madeUpMatrices, madeUpRecord } from "../support/run-record";

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

function chromiumPath(): string {
  const usual = ["chromium", "google-chrome", "chromium-browser"].map((name) => `/usr/bin/${name}`);
  const found = [process.env["CHROME_PATH"], ...usual].find((path) => path !== undefined && existsSync(path));
  if (found !== undefined) return found;
  throw new Error("No Chromium was found.\nInstall it (Debian: apt-get install chromium), or set CHROME_PATH.");
}

/** Labels that stick out of their figure, and pairs of labels of one axis that touch. */
function badLabels(): string[] {
  const bad: string[] = [];
  for (const svg of document.querySelectorAll("figure > svg")) {
    const frame = svg.getBoundingClientRect();
    for (const text of svg.querySelectorAll("text")) {
      const { left, right, top, bottom } = text.getBoundingClientRect();
      const isOut =
        left < frame.left - 1 || right > frame.right + 1 || top < frame.top - 1 || bottom > frame.bottom + 1;
      if (isOut) bad.push(`${text.textContent} is cut`);
    }
    for (const axis of svg.querySelectorAll('g[aria-label$="tick label"]')) {
      const told = [...axis.querySelectorAll("text")].filter(({ textContent }) => textContent !== "");
      const boxes = told.map((text) => text.getBoundingClientRect());
      boxes.forEach((a, i) => {
        const touches = (b: DOMRect): boolean =>
          a.left < b.right && b.left < a.right && a.top + 2 < b.bottom && b.top + 2 < a.bottom;
        if (boxes.slice(i + 1).some(touches)) bad.push(`${told[i]?.textContent} touches another label`);
      });
    }
  }
  return bad;
}

const RUNS: readonly (readonly [string, RunRecord])[] = [
  ["SAFE", madeUpRecord()],
  ["many layers and steps", madeUpRecord({ steps: 3000, layers: 32, every: 40 })],
  ["matrices", madeUpMatrices()],
  ["one evaluation and no scores", { ...madeUpRecord(), evaluations: [], scores: [], metrics: { accuracy: 0.753769 } }],
];

describe("the report in Chromium", () => {
  it.each(RUNS)("of %s opens without an error or a request, in light, dark and print", async (name, record) => {
    const path = join(folder, `${name}.html`);
    writeFileSync(path, reportHtml(record));
    const page = await browser.newPage({ viewport: { width: 1000, height: 800 } });
    const troubles: string[] = [];
    page.on("console", (message) => troubles.push(message.text()));
    page.on("pageerror", (error) => troubles.push(error.message));
    const asked: string[] = [];
    page.on("request", (request) => asked.push(request.url()));
    await page.goto(pathToFileURL(path).href);
    expect(
      asked.filter((url) => !url.startsWith("data:")),
      "requests",
    ).toHaveLength(1);
    const looks = [{ colorScheme: "light" }, { colorScheme: "dark" }, { media: "print" }] as const;
    const papers: string[] = [];
    for (const look of looks) {
      await page.emulateMedia(look);
      papers.push(await page.evaluate(() => getComputedStyle(document.body).backgroundColor));
      expect(await page.evaluate(badLabels), JSON.stringify(look)).toEqual([]);
    }
    expect(papers).toEqual(["rgb(255, 255, 255)", "rgb(21, 23, 26)", "rgb(255, 255, 255)"]);
    expect(await page.locator("figure > svg").count()).toBe(5);
    expect(troubles).toEqual([]);
    await page.close();
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
