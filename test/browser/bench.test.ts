import { readFileSync, writeFileSync } from "node:fs";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { OPS } from "../../src/testing/ops";
import { parseBenchResult } from "../../src/testing/bench-result";
import { version } from "../../package.json";
import { useSharedFolder } from "../support/folder";
import { checkAccessible, checkWidth, startStudio } from "./support/studio";
import type { StudioSession } from "./support/studio";

const path = useSharedFolder();
let studio: StudioSession;
let page: Page;
let problems: readonly string[];

beforeAll(async () => {
  studio = await startStudio();
  ({ page, problems } = await studio.open({ path: "bench.html", viewport: { width: 380, height: 700 } }));
});
afterAll(() => studio.close());

/** Opens the bench's page with a query, and waits for its list of ops. */
async function open(query: string): Promise<void> {
  await page.goto(`${studio.server.url}bench.html?${query}`);
  await page.waitForSelector("body[data-ready]");
}

async function time(): Promise<string> {
  await page.click("#start");
  await page.waitForSelector("body[data-done]");
  return page.innerText("#status");
}

/** Cells of the table's rows, without the bar. */
const rows = (): Promise<string[][]> =>
  page.$$eval("#rows tr", (all) =>
    all.map((row) => [...row.querySelectorAll("td")].slice(0, -1).map((cell) => cell.textContent)),
  );

describe("the bench in a page", () => {
  it("lists every op, times one on the shapes of its query, and saves what the command compares with", async () => {
    await open("op=gelu&shapes=x=8x16;x=32x16");
    const names = await page.$$eval("select option", (options) => options.map(({ textContent }) => textContent));
    expect(names).toEqual(["all", ...OPS.map(({ name }) => name)]);
    expect(await time()).toBe("2 of 2 cases");
    const table = await rows();
    expect(table.map((cells) => cells.slice(0, 3).join(" "))).toEqual([
      "gelu x=8x16 forward",
      "gelu x=8x16 forward + backward",
      "gelu x=32x16 forward",
      "gelu x=32x16 forward + backward",
    ]);
    const [download] = await Promise.all([page.waitForEvent("download"), page.click("#save")]);
    expect(download.suggestedFilename()).toBe("safetape-bench-gelu.json");
    await download.saveAs(path("gelu.json"));
    const result = parseBenchResult(readFileSync(path("gelu.json"), "utf8"));
    expect(result.safetape).toBe(version);
    expect(result.timings.map(({ ms }) => String(Number(ms.toPrecision(3))))).toEqual(table.map((cells) => cells[4]));
    const facts = await page.innerText("#facts");
    expect(facts).toContain(result.adapter);
    expect(facts).toMatch(/clock\s+(?:timestamps of the device|the host's)/);
    expect(facts).toContain(`${result.ceiling.gflops} GFLOP/s of multiply-adds`);
    const bars = await page.$$eval("meter", (all) => all.map(({ value }) => value));
    await checkAccessible(page, "the bench");
    await checkWidth(page, "the bench");
    bars.forEach((bar, i) => {
      const { ofFmaRate, ofCopyRate = 0 } = result.timings[i]!;
      expect(bar).toBeCloseTo(Math.min(1, Math.max(ofFmaRate, ofCopyRate)), 4);
    });
  });

  it("has the ratios to a result that was saved before", async () => {
    await open("op=gelu&shapes=x=8x16");
    await page.setInputFiles("input[type=file]", path("gelu.json"));
    await time();
    const [forward] = await rows();
    const before = parseBenchResult(readFileSync(path("gelu.json"), "utf8")).timings[0]!;
    expect(Number(forward!.at(-1))).toBeCloseTo(Number(forward![4]) / before.ms, 1);
  });

  it("says what is wrong with shapes and files, and times nothing", async () => {
    await open("op=gelu&shapes=w=8");
    expect(await time()).toMatch(/gelu has no input w\.\s+Its inputs are x/);
    await open("op=&shapes=x=8");
    expect(await time()).toMatch(/choose it/);
    await open("op=gelu&shapes=x=8");
    writeFileSync(path("other.json"), "{}");
    await page.setInputFiles("input[type=file]", path("other.json"));
    expect(await time()).toMatch(/This is no result of a bench/);
    expect(await rows()).toEqual([]);
  });

  it("has no errors, and keeps its policy", () => {
    expect(problems).toEqual([]);
  });
});
