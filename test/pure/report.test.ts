import { describe, expect, it } from "vitest";
import { parseHTML } from "linkedom";
import papa from "papaparse";
import { memoryDirectory } from "safetape/data";
import { adapterGroups } from "../../src/report/adapter-map";
import { figures } from "../../src/report/figures/index";
import { reportHtml } from "../../src/report/html";
import { readRunRecord } from "../../src/report/record";
import { saveReport } from "../../src/report/save";
import { COLOURS, standaloneSvg } from "../../src/report/svg";
import { extremes, runningMedian } from "../../src/report/thin";
import { MADE_UP_COMPACTION, madeUpMatrices, madeUpRecord } from "../support/run-record";

const record = madeUpRecord();
/** The document of a figure of the record. */
const documentOf = (name: string) => {
  const figure = figures(record).find((candidate) => candidate.name === name);
  if (!figure) throw new Error(`There is no figure ${name}.`);
  return parseHTML(`<!doctype html><html><body><svg>${figure.body}</svg></body></html>`).document;
};
/** The elements of a figure's mark, which its description names. */
const marks = (document: Document, description: string, element: string) =>
  [...document.querySelectorAll(`g[aria-description="${description}"]`)].flatMap((group) => [
    ...group.querySelectorAll(element),
  ]);

describe("figures", () => {
  it.each([
    ["a run with freezes", record],
    ["matrices that freeze one by one", madeUpMatrices()],
    ["no freezes, no scores", { ...record, freezes: [], scores: [] }],
    ["a single step", { ...madeUpRecord({ steps: 1, freezes: {} }), evaluations: [], metrics: {} }],
    ["more steps than pixels", madeUpRecord({ steps: 5000, layers: 40, every: 10 })],
  ])("of %s contain only finite numbers, and stay small", (_, run) => {
    for (const figure of figures(run)) {
      const svg = standaloneSvg(figure, run.title);
      expect(svg, figure.name).not.toMatch(/NaN|undefined|Infinity/);
      expect(svg.length, `length of ${figure.name}`).toBeLessThan(1.5e6);
    }
  });

  it("stack memory by lifetime in four colours, with a line of the planned memory", () => {
    const document = documentOf("memory");
    const areas = marks(document, "memory by lifetime", "path");
    const { blue, orange, green, pink } = COLOURS;
    expect(areas.map((area) => area.getAttribute("fill"))).toEqual([blue, orange, green, pink]);
    expect(marks(document, "planned memory", "path")).toHaveLength(1);
    expect(document.body.textContent).toMatch(/GPU memory \(MB\)/);
  });

  it("mark each step with freezes by one line, and name the frozen layers", () => {
    const document = documentOf("memory");
    expect(marks(document, "freezes", "line")).toHaveLength(3);
    for (const label of ["layer 0", "layers 1, 3", "layer 2"]) expect(document.body.textContent).toContain(label);
  });

  it("map layers against epochs: scores until a layer freezes, then grey", () => {
    const document = documentOf("adapters");
    // Scores every 10 of 120 steps: of layers 4 and 5 to the end, of 0, 1, 2 and 3 until steps 40, 60, 90 and 60.
    expect(marks(document, "scores", "rect")).toHaveLength(12 + 12 + 4 + 6 + 9 + 6);
    expect(marks(document, "frozen", "rect")).toHaveLength(4);
    expect(marks(document, "freezing", "line")).toHaveLength(4);
    expect(document.body.textContent).toContain("importance of the adapter");
  });

  it("map single matrices if these freeze, in one panel for each kind", () => {
    const groups = adapterGroups(madeUpMatrices());
    const kinds = ["query.lora_A", "query.lora_B", "value.lora_A", "value.lora_B"];
    expect(groups.map(({ title }) => title)).toEqual(kinds.map((kind) => `attention.self.${kind}`));
    for (const { layers, frozen } of groups) {
      expect(layers).toEqual([0, 1, 2, 3, 4, 5]);
      expect(frozen).toHaveLength(6);
    }
  });

  it("show every evaluation, including the final one", () => {
    expect(marks(documentOf("loss"), "evaluations", "circle")).toHaveLength(2);
    expect(documentOf("loss").body.textContent).toContain("accuracy (higher is better)");
  });

  it("keep the smallest and the largest of many points", () => {
    const points = Array.from({ length: 10_000 }, (_, step) => ({ step, value: step === 5001 ? 9 : Math.sin(step) }));
    const kept = extremes(points, 50);
    expect(kept.length).toBeLessThanOrEqual(100);
    expect(kept).toContainEqual({ step: 5001, value: 9 });
    expect(kept.map(({ step }) => step)).toEqual(kept.map(({ step }) => step).sort((a, b) => a - b));
  });

  it("show a running median of times: outliers and turns of the host do not move it, a freeze does, where it was", () => {
    const values = [9, 2, 4, 2, 4, 2, 4, 50, 4, 1, 2, 1, 2, 1, 2];
    const medians = runningMedian(
      values.map((value, i) => ({ step: i + 1, value })),
      2,
    );
    expect(medians.map(({ step }) => step)).toEqual(values.map((_, i) => i + 1));
    expect(medians.map(({ value }) => value)).toEqual([4, 3, 4, 2, 4, 4, 4, 4, 4, 2, 2, 1, 2, 1.5, 2]);
    const [times] = marks(documentOf("time"), "time per step", "path");
    const [median] = marks(documentOf("time"), "running median of the time per step", "path");
    expect(times!.getAttribute("d")).not.toBe(median!.getAttribute("d"));
  });
});

describe("report.html", () => {
  const html = reportHtml(record);
  const { document } = parseHTML(html);

  it("is one file without scripts and references to other files", () => {
    expect(document.querySelectorAll("script, img, iframe, link[rel=stylesheet], image, use")).toHaveLength(0);
    const links = [...document.querySelectorAll("[href], [src]")].map((one) => one.getAttribute("href"));
    expect(links).toEqual(["data:,"]);
    expect(html).not.toMatch(/url\(|@import/);
  });

  it("counts the trained parameters, and those that still learn on average", () => {
    const tiles = [...document.querySelectorAll(".facts div")].map(({ textContent }) => textContent);
    expect(tiles).toEqual(expect.arrayContaining(["trained parameters6,000", "still learning, on average4,568"]));
    const { parameters: _, ...withoutCounts } = record;
    expect(reportHtml(withoutCounts), "of a run.json of an earlier version").not.toContain("trained parameters");
  });

  it("describes its figures for screen readers, with unique ids", () => {
    const svgs = [...document.querySelectorAll("figure > svg")];
    expect(svgs).toHaveLength(5);
    const ids = [...document.querySelectorAll("[id]")].map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
    for (const svg of svgs) {
      expect(svg.getAttribute("role")).toBe("img");
      for (const attribute of ["aria-labelledby", "aria-describedby"]) {
        const text = document.getElementById(svg.getAttribute(attribute) ?? "")?.textContent ?? "";
        expect(text.length, `length of the text of ${attribute}`).toBeGreaterThan(5);
      }
    }
  });

  it("has a table of what each freeze returned, the settings, the command and the device", () => {
    const text = document.body.textContent;
    const rows = [...document.querySelectorAll("table")][0]?.querySelectorAll("tbody tr") ?? [];
    expect([...rows].map((row) => row.textContent)).toHaveLength(3);
    expect(rows[0]?.textContent).toBe("40layer 03.4 MB400 kB3 MB1 GFLOP800 MFLOP20 %");
    for (const fact of ["safetape train --freeze safe", "made up", "driver 1", "v20"]) expect(text).toContain(fact);
  });

  it("has a table of what each compaction returned, if there was one, and the memory at the end beside the peak", () => {
    const { document } = parseHTML(reportHtml({ ...record, compactions: [MADE_UP_COMPACTION] }));
    const cells = [...document.querySelectorAll("table")][1]?.querySelectorAll("tbody td") ?? [];
    const expected = ["60", "6", "128", "6 MB", "3 MB", "1 MB", "2 MB", "0 kB", "16 MB", "900 MFLOP"];
    expect([...cells].map(({ textContent }) => textContent)).toEqual(expected);
    expect(reportHtml(record)).not.toContain("Compactions");
    const facts = [...document.querySelectorAll("dl.facts div")].map(({ textContent }) => textContent);
    expect(facts).toContain("GPU memory at the end32.8 MB");
  });

  it("has a table of the learning rates that were tried, if any were", () => {
    const triedRates = [
      { learningRate: 1e-3, metrics: { accuracy: 0.75, loss: 0.5 } },
      { learningRate: 1, metrics: {} },
    ];
    const { document } = parseHTML(reportHtml({ ...record, triedRates }));
    const rows = [...document.querySelectorAll("table")][1]?.querySelectorAll("tr") ?? [];
    expect([...rows].map(({ textContent }) => textContent)).toEqual([
      "learning rateaccuracyloss",
      "0.0010.75000.5000",
      "1",
    ]);
    expect(reportHtml(record)).not.toContain("Learning rates");
  });

  it("shows names unchanged, whatever characters they contain", () => {
    const evil = `<script>alert("1")</script> & 'x' \u0000`;
    const withEvilNames = { ...record, title: evil, command: evil, model: { ...record.model, source: evil } };
    const withEvilKeys = {
      ...withEvilNames,
      policy: { [evil]: evil },
      metrics: { [evil]: 1 },
      evaluations: [],
      freezes: [],
    };
    const page = reportHtml(withEvilKeys);
    const parsed = parseHTML(page).document;
    expect(parsed.querySelectorAll("script")).toHaveLength(0);
    expect(parsed.querySelector("h1")?.textContent).toBe(evil.replace("\u0000", "\ufffd"));
    expect(page).not.toContain("<script");
  });

  it("says so if there is no map to draw", () => {
    expect(reportHtml({ ...record, freezes: [], scores: [] })).toContain("Nothing was scored or frozen");
  });
});

describe("saveReport", () => {
  it("writes data that read back as the same record and give the same report", async () => {
    const out = memoryDirectory("run");
    await saveReport(out, record);
    expect(await out.list()).toEqual([
      "evaluations.csv",
      "freezes.csv",
      "report.html",
      "run.json",
      "scores.csv",
      "steps.csv",
    ]);
    const readBack = await readRunRecord(out);
    expect(readBack).toEqual(record);
    expect(reportHtml(readBack)).toBe(reportHtml(record));
    const csv = new TextDecoder().decode(await out.read("steps.csv"));
    const { data } = papa.parse<Record<string, string>>(csv.trim(), { header: true });
    expect(data).toHaveLength(record.steps.length);
    expect(Number(data[0]?.["bytes_total"])).toBe(46.4e6);
    expect(data.map(({ loss }) => Number(loss))).toEqual(record.steps.map(({ loss }) => loss));
  });

  it("renders every figure as PNG if asked to", async () => {
    const out = memoryDirectory("run");
    const files = await saveReport(out, record, { png: true });
    const pictures = files.filter((file) => file.endsWith(".png"));
    expect(pictures).toEqual(figures(record).map(({ name }) => `${name}.png`));
    for (const file of pictures) expect([...(await out.read(file)).subarray(1, 4)], file).toEqual([80, 78, 71]);
  });

  it.each([
    ["a record of another format", { losses: [1, 2] }, /format/],
    ["a step without its loss", { ...record, steps: [{ ...record.steps[0], loss: null }] }, /steps\.0\.loss/],
  ])("refuses %s, and names what is wrong", async (_, json, message) => {
    const out = memoryDirectory("run", { "run.json": new TextEncoder().encode(JSON.stringify(json)) });
    await expect(readRunRecord(out)).rejects.toThrow(message);
  });
});
