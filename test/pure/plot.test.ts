import { expect, it } from "vitest";
import { figurePng, figureSvg } from "../../bench/support/plot";
import type { Figure } from "../../bench/support/plot";

const FIGURE: Figure = {
  title: "Memory & time",
  caption: ["first line", "second line"],
  mark: "a freeze",
  charts: ["Total", "Saved"].map((title) => ({
    ...{ title, x: "optimizer step", y: "GPU memory (MB)" },
    series: ["one", "two", "three"].map((name, i) => ({
      name,
      points: Array.from({ length: 10 }, (_, x) => ({ x, y: i + x, marked: i === 1 && x === 4 })),
    })),
  })),
};

const count = (svg: string, pattern: RegExp): number => [...svg.matchAll(pattern)].length;

it("draws a path for each series of each panel, in a colour of its own", () => {
  const svg = figureSvg(FIGURE);
  for (const [name, colour] of Object.entries({ one: "#0072B2", two: "#D55E00", three: "#009E73" })) {
    const lines = [...svg.matchAll(/<path [^>]*>/g)].map(([path]) => path).filter((path) => path.includes(`"${name}"`));
    expect(lines, `lines of ${name}`).toHaveLength(FIGURE.charts.length);
    for (const line of lines) expect(line).toContain(`stroke="${colour}"`);
  }
});

it("names axes with their units, panels, series, marks and caption", () => {
  const svg = figureSvg(FIGURE);
  for (const label of ["optimizer step", "GPU memory (MB)"]) {
    expect(count(svg, new RegExp(`>[^<]*${label.replace(/[()]/g, "\\$&")}[^<]*</text>`, "g")), label).toBe(2);
  }
  for (const label of ["Total", "Saved", "one", "two", "three", "a freeze", "first line", "second line"]) {
    expect(svg).toContain(`>${label}</text>`);
  }
  expect(svg).toContain("Memory &amp; time");
});

it("marks the points that say so, and no other", () => {
  const dots = (svg: string): number => count(svg, /<circle [^>]*r="5"/g);
  const plain = { ...FIGURE, charts: FIGURE.charts.map(withoutMarks) };
  expect(dots(figureSvg(FIGURE)) - dots(figureSvg(plain))).toBe(FIGURE.charts.length);
});

it("becomes a PNG of twice the SVG's size", () => {
  const svg = figureSvg(FIGURE);
  const [, width, height] = (/<svg [^>]*width="(\d+)" height="(\d+)"/.exec(svg) ?? []).map(Number);
  const png = Buffer.from(figurePng(svg));
  expect(png.subarray(1, 4).toString()).toBe("PNG");
  expect([png.readUInt32BE(16), png.readUInt32BE(20)]).toEqual([2 * (width ?? 0), 2 * (height ?? 0)]);
});

it("refuses more series than it has colours", () => {
  const series = Array.from({ length: 8 }, (_, i) => ({ name: `s${i}`, points: [{ x: 0, y: i }] }));
  expect(() => figureSvg({ ...FIGURE, charts: [{ ...FIGURE.charts[0]!, series }] })).toThrow(/8 series have 7 colours/);
});

function withoutMarks(chart: Figure["charts"][number]): Figure["charts"][number] {
  return { ...chart, series: chart.series.map(({ name, points }) => ({ name, points: points.map(unmarked) })) };
}

const unmarked = ({ x, y }: { x: number; y: number }): { x: number; y: number } => ({ x, y });
