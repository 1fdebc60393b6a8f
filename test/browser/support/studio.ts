import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, join, resolve } from "node:path";
import { unzipSync } from "fflate";
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
  /** Opens the studio, or another page of its folder, in a browser that has stored nothing. */
  open(options?: OpenOptions): Promise<OpenStudio>;
  /** Opens the studio in a page that is there already. */
  openIn(page: Page): Promise<void>;
  close(): Promise<void>;
}

interface OpenOptions {
  readonly viewport?: { readonly width: number; readonly height: number };
  readonly path?: string;
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

/** The longest time in which nothing on the page changes: SwiftShader compiles for a quarter of a minute, and for minutes beside other work. */
const STALL_MS = 400_000;
/** A test fails where its page stalls. How long it takes as a whole is up to the machine, and this is far above it. */
export const TEST_MS = 3_600_000;
const POLL_MS = 100;

export async function startStudio(): Promise<StudioSession> {
  const server = await serveStudio(checkBuilt(), 0);
  const chromium = await startChromium();
  const openIn = async (page: Page, path = ""): Promise<void> => {
    // Dialogs of the browser would be answered by either of the two connections to it.
    await page.addInitScript(() => {
      globalThis.confirm = () => true;
      addEventListener("beforeunload", (event) => event.stopImmediatePropagation());
    });
    await page.addInitScript(keepResults);
    page.setDefaultTimeout(STALL_MS);
    await page.goto(server.url + path);
    await page.waitForSelector("body[data-ready]");
  };
  return {
    server,
    chromium,
    openIn,
    open: async ({ viewport = { width: 1000, height: 800 }, path = "" } = {}) => {
      const context = await chromium.browser.newContext({ viewport, acceptDownloads: true });
      const page = await context.newPage();
      const [problems, requests]: [string[], string[]] = [[], []];
      page.on("pageerror", (error) => problems.push(error.message));
      page.on("console", (message) => {
        if (message.type() === "error") problems.push(message.text());
      });
      context.on("request", (request) => requests.push(request.url()));
      await openIn(page, path);
      return { page, problems, requests };
    },
    close: async () => {
      await chromium.close();
      await server.close();
    },
  };
}

/** What the page's init script leaves for `lastResult`. */
interface Kept {
  results?: unknown[];
}

/** Runs before the page's scripts: keeps what the worker answers, whose numbers the page shows with fewer digits. */
function keepResults(): void {
  const Native = Worker;
  const results: unknown[] = [];
  // The page's own global scope, in which nothing else has this name.
  (globalThis as Kept).results = results;
  globalThis.Worker = class extends Native {
    constructor(url: string | URL, options?: WorkerOptions) {
      super(url, options);
      this.addEventListener("message", ({ data }: MessageEvent<{ result?: unknown }>) => results.push(data.result));
    }
  };
}

/** The last answer of the worker that a schema fits. */
export async function lastResult<Schema extends v.GenericSchema>(
  page: Page,
  schema: Schema,
): Promise<v.InferOutput<Schema>> {
  // Files and other objects that cannot leave the page are left out.
  const results = await page.evaluate(() =>
    ((globalThis as Kept).results ?? []).map((result) => (result instanceof File ? null : JSON.stringify(result))),
  );
  for (const text of results.reverse()) {
    const parsed = v.safeParse(schema, text ? parseJson(text) : undefined);
    if (parsed.success) return parsed.output;
  }
  throw new Error("The worker has not answered such a thing.");
}

/** Waits until a text of the page is one that is wanted, for as long as what the page says, or the run's step, changes. */
export async function shows(page: Page, selector: string, text: RegExp): Promise<void> {
  let [last, changed] = ["", performance.now()];
  for (;;) {
    const [found, state] = await page.evaluate((place) => {
      const words = document.querySelector(place)?.textContent ?? "";
      const status = document.querySelector("[role=status]")?.textContent ?? "";
      return [words, `${words} ${status} ${document.querySelector("progress")?.value ?? 0}`] as const;
    }, selector);
    if (text.test(found)) return;
    if (state !== last) [last, changed] = [state, performance.now()];
    if (performance.now() - changed > STALL_MS) {
      const fault = await page.evaluate(() => document.querySelector(".faults")?.textContent);
      throw new Error(
        `${selector} never had ${text.source}, but ${JSON.stringify(found.slice(0, 300))}; ${fault ?? ""}`,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/** Waits until the page's status is one that is wanted. */
export const said = (page: Page, text: RegExp): Promise<void> => shows(page, "[role=status]", text);

/** Waits until the run has done more steps than this. */
export const passes = (page: Page, step: number): Promise<unknown> =>
  page.waitForFunction((count) => Number(document.querySelector("progress")?.value) > count, step);

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

/** Chooses the folder of a model. */
export async function giveModel(page: Page, folder: string): Promise<void> {
  await page.setInputFiles('#model input[data-kind="folder"]', folder);
  await said(page, new RegExp(`^${basename(folder)} is open`));
}

/** Drops files or folders on a place, as a user does. */
export async function drop(page: Page, place: string, paths: readonly string[]): Promise<void> {
  const box = (await page.locator(place).boundingBox())!;
  const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
  const cdp = await page.context().newCDPSession(page);
  const data = { items: [], files: paths.map((path) => resolve(path)), dragOperationsMask: 1 };
  for (const type of ["dragEnter", "dragOver", "drop"] as const)
    await cdp.send("Input.dispatchDragEvent", { type, x, y, data });
}

/** Goes from the data to the plan. */
export async function goToPlan(page: Page): Promise<void> {
  await press(page, "Next: plan");
  await page.waitForSelector("#plan .layer");
}

/** Goes with the example's model and a file as far as the plan. */
export async function planExample(page: Page, file: string, size?: SmallRun): Promise<void> {
  await openExample(page);
  await press(page, "Next: data");
  await giveData(page, [file]);
  await goToPlan(page);
  if (size) await makeSmall(page, size);
}

/** Rows of a batch, and how many steps that gives. */
interface SmallRun {
  readonly batch: number;
  readonly steps: number;
}

/** Makes a run small, as SwiftShader needs seconds for a step of the example: rows of 8 tokens, one epoch, nothing that freezes. */
export async function makeSmall(page: Page, { batch, steps }: SmallRun): Promise<void> {
  await page.getByLabel(/^Longest row/).fill("8");
  await page.getByLabel(/^Rows of a batch/).fill(String(batch));
  await page.getByLabel(/^Epochs/).fill("1");
  await page.getByLabel(/^Freezing/).selectOption("never");
  await shows(page, "#plan .tiles", new RegExp(`steps\\s*${steps}expected`));
}

/** Trains by the plan. */
export async function startTraining(page: Page): Promise<void> {
  await press(page, "Train");
  await press(page, "Start training");
}

/** Trains by the plan, to the end. */
export async function trainToEnd(page: Page): Promise<void> {
  await startTraining(page);
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

/** Takes a zip away, and writes its files into a folder. @returns their names. */
export async function takeInto(page: Page, id: string, folder: string): Promise<string[]> {
  const files = Object.entries(unzipSync(await take(page, id)));
  mkdirSync(folder, { recursive: true });
  for (const [name, bytes] of files) writeFileSync(join(folder, name), bytes);
  return files.map(([name]) => name).sort();
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
