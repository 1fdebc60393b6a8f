import { readdirSync, readFileSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import type { Page } from "playwright-core";
import * as v from "valibot";
import { expect } from "vitest";
import { serveStudio } from "../../../src/cli/studio/server";
import type { StudioServer } from "../../../src/cli/studio/server";
import { RUN_RECORD } from "../../../src/report/record";
import type { RunRecord } from "../../../src/report/record";
import { parseJson } from "../../support/json";
import { publishedFolder } from "../../support/published";
import { startChromium } from "./chromium";
import type { Chromium } from "./chromium";

/** The studio as it is published, and a browser. */
export interface StudioSession {
  readonly server: StudioServer;
  readonly chromium: Chromium;
  /** Opens the studio in a browser that has stored nothing. */
  open(options?: { readonly viewport?: { readonly width: number; readonly height: number } }): Promise<OpenStudio>;
  close(): Promise<void>;
}

export interface OpenStudio {
  readonly page: Page;
  /** Errors of the page and its worker, and breaches of the policy. */
  readonly problems: string[];
  /** Addresses that were requested. */
  readonly requests: string[];
}

/** @throws Error if the studio was not built from the current sources. */
function checkBuilt(): string {
  const folder = join(publishedFolder(), "studio");
  const newest = Math.max(
    ...readdirSync("examples/studio", { recursive: true, encoding: "utf8" }).map(
      (name) => statSync(join("examples/studio", name)).mtimeMs,
    ),
  );
  if (statSync(join(folder, "page.js")).mtimeMs >= newest) return folder;
  throw new Error("dist/studio is older than examples/studio.\nRun: npm run build");
}

const STEP_MS = 400_000;
/** The time of a test, which kernels take nearly all of. */
export const TEST_MS = 900_000;

export async function startStudio(): Promise<StudioSession> {
  const server = await serveStudio(checkBuilt(), 0);
  const chromium = await startChromium();
  return {
    server,
    chromium,
    open: async ({ viewport = { width: 1000, height: 800 } } = {}) => {
      const context = await chromium.browser.newContext({ viewport, acceptDownloads: true });
      const page = await context.newPage();
      const [problems, requests]: [string[], string[]] = [[], []];
      page.on("pageerror", (error) => problems.push(error.message));
      page.on("console", (message) => {
        if (message.type() === "error") problems.push(message.text());
      });
      context.on("request", (request) => requests.push(request.url()));
      // Dialogs of the browser would be answered by either of the two connections to it.
      await page.addInitScript(() => {
        globalThis.confirm = () => true;
        addEventListener("beforeunload", (event) => event.stopImmediatePropagation());
      });
      // SwiftShader compiles the kernels of a run for a quarter of a minute, and for minutes beside other work.
      page.setDefaultTimeout(STEP_MS);
      await page.goto(server.url);
      await page.waitForSelector("body[data-ready]");
      return { page, problems, requests };
    },
    close: async () => {
      await chromium.close();
      await server.close();
    },
  };
}

/** Waits until the page is at nothing long, and says a text. */
export async function said(page: Page, text: RegExp): Promise<void> {
  const matches = ({ source, flags }: { source: string; flags: string }): boolean =>
    new RegExp(source, flags).test(document.querySelector("[role=status]")?.textContent ?? "");
  await page.waitForFunction(matches, { source: text.source, flags: text.flags });
}

/** The button of this name in the step that is in view, or around it. */
export const press = (page: Page, name: string | RegExp): Promise<void> =>
  page
    .getByRole("button", { name, exact: typeof name === "string" })
    .and(page.locator(":visible"))
    .first()
    .click();

/** Opens the example's model. */
export async function openExample(page: Page): Promise<void> {
  await press(page, "Use the example: a small BERT");
  await said(page, /is open/);
}

/** Gives files to the step of data. */
export async function giveData(page: Page, files: readonly string[]): Promise<void> {
  await page.setInputFiles('#data input[data-kind="files"]', [...files]);
  await said(page, /rows to learn from/);
}

/** Goes with the example's model and a file as far as the plan. */
export async function planExample(page: Page, file: string): Promise<void> {
  await openExample(page);
  await press(page, "Next: data");
  await giveData(page, [file]);
  await press(page, "Next: plan");
  await page.waitForSelector("#plan .layer");
}

/** Makes a run small, as SwiftShader needs seconds for a step of the example: rows of 8 tokens, one epoch, nothing that freezes. */
export async function makeSmall(
  page: Page,
  { batch, steps }: { readonly batch: number; readonly steps: number },
): Promise<void> {
  await page.getByLabel(/^Longest row/).fill("8");
  await page.getByLabel(/^Rows of a batch/).fill(String(batch));
  await page.getByLabel(/^Epochs/).fill("1");
  await page.getByLabel(/^Freezing/).selectOption("never");
  const hasSteps = (count: number): boolean =>
    new RegExp(`steps\\s*${count}expected`).test(document.querySelector("#plan .tiles")?.textContent ?? "");
  await page.waitForFunction(hasSteps, steps);
}

/** Trains by the plan, to the end. */
export async function trainToEnd(page: Page): Promise<void> {
  await press(page, "Train");
  await press(page, "Start training");
  await said(page, /^Trained\./);
}

/** Goes from the end of a run to what can be taken away. */
export async function goToTake(page: Page): Promise<void> {
  await press(page, "Next: try it");
  await press(page, "Next: take it away");
}

/** Takes a file away. */
export async function take(page: Page, id: string): Promise<Uint8Array> {
  const [download] = await Promise.all([page.waitForEvent("download"), page.click(`[data-id="${id}"]`)]);
  return readFileSync(await download.path());
}

export async function takeRecord(page: Page): Promise<RunRecord> {
  return v.parse(RUN_RECORD, parseJson(new TextDecoder().decode(await take(page, "record"))));
}

const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");

interface Violation {
  readonly id: string;
  readonly impact: string;
  readonly nodes: readonly { readonly html: string }[];
}

/** Checks that axe-core finds nothing serious in what is in view. The page's policy allows no script of others, so it runs beside it. */
export async function checkAccessible(page: Page, where: string): Promise<void> {
  // Playwright runs what it evaluates outside of the page's policy.
  await page.evaluate(`${readFileSync(AXE, "utf8")}; undefined`);
  const found: unknown = await page.evaluate(
    "axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) => violations)",
  );
  // The expression returns axe-core's violations.
  const serious = (found as readonly Violation[]).filter(({ impact }) => impact === "serious" || impact === "critical");
  expect(
    serious.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 200)).join(" | ")}`),
    where,
  ).toEqual([]);
}

/** Checks that nothing makes the page wider than its screen. */
export async function checkWidth(page: Page, where: string): Promise<void> {
  const [content, screen] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth] as const);
  expect(content, `${where} is wider than its screen`).toBeLessThanOrEqual(screen);
}
