import * as Plot from "@observablehq/plot";
import { Resvg } from "@resvg/resvg-js";
import { parseHTML } from "linkedom";

/** One value after the other along x. */
export interface Series {
  readonly name: string;
  readonly points: readonly Point[];
}

export interface Point {
  readonly x: number;
  readonly y: number;
  /** Drawn as a dot: something happened here. */
  readonly marked?: boolean;
}

/** One panel; panels of a figure share names and colours. */
export interface Chart {
  readonly title: string;
  /** Axis labels, units included. */
  readonly x: string;
  readonly y: string;
  readonly series: readonly Series[];
}

export interface Figure {
  readonly title: string;
  /** Lines below the panels. */
  readonly caption: readonly string[];
  /** What a marked point is. */
  readonly mark?: string;
  readonly charts: readonly Chart[];
}

/** Okabe and Ito's colours, which people with any colour vision tell apart; yellow is too pale for a line on white. */
const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"];

const [WIDTH, PANEL, MARGIN, LINE] = [880, 300, 24, 20];
const FONT = { family: "DejaVu Sans, Verdana, sans-serif", size: 13, title: 16, panel: 14 };
/** Mean width of a letter over its height, for a legend's places. */
const LETTER = 0.62;

type Document = ReturnType<typeof parseHTML>["document"];

/** Draws a figure as SVG: title, legend, panels one below the other, caption. */
export function figureSvg({ title, caption, mark, charts }: Figure): string {
  const names = [...new Set(charts.flatMap(({ series }) => series.map(({ name }) => name)))];
  if (names.length > COLOURS.length) throw new Error(`${names.length} series have ${COLOURS.length} colours.`);
  const { document } = parseHTML("<!doctype html><html><body></body></html>");
  const body: string[] = [];
  let y = MARGIN + FONT.title;
  body.push(text(title, MARGIN, y, FONT.title, "bold"));
  y += LINE + 4;
  body.push(...legend(names, mark, y));
  y += LINE;
  for (const chart of charts) {
    y += LINE;
    body.push(text(chart.title, MARGIN, y, FONT.panel, "bold"), panel(document, chart, names, y + 4));
    y += PANEL + 4;
  }
  for (const line of caption) body.push(text(line, MARGIN, (y += LINE - 2), FONT.size - 1));
  const height = y + MARGIN;
  const size = `width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}"`;
  const background = `<rect width="${WIDTH}" height="${height}" fill="white"/>`;
  return `<svg xmlns="http://www.w3.org/2000/svg" ${size} font-family="${FONT.family}">\n${background}\n${body.join("\n")}\n</svg>\n`;
}

/** A figure's SVG as PNG, at twice its size. */
export function figurePng(svg: string): Uint8Array {
  const font = { loadSystemFonts: true, defaultFontFamily: "DejaVu Sans" };
  return new Resvg(svg, { background: "white", fitTo: { mode: "zoom", value: 2 }, font }).render().asPng();
}

function panel(document: Document, chart: Chart, names: readonly string[], top: number): string {
  const points = chart.series.flatMap(({ name, points: own }) => own.map((point) => ({ ...point, name })));
  const svg = Plot.plot({
    ...{ document: document, width: WIDTH - MARGIN, height: PANEL },
    ...{ marginLeft: 64, marginRight: 24, marginTop: 28, marginBottom: 44 },
    style: { fontSize: `${FONT.size}px` },
    x: { label: chart.x, labelAnchor: "center", labelArrow: "none" },
    y: { label: chart.y, labelArrow: "none", grid: true, zero: true, nice: true },
    color: { domain: names, range: COLOURS.slice(0, names.length) },
    marks: [
      Plot.ruleY([0]),
      ...chart.series.map(({ name, points: own }) => line(own, name, names)),
      Plot.dot(
        points.filter(({ marked }) => marked),
        { x: "x", y: "y", fill: "name", stroke: "white", strokeWidth: 1, r: 5 },
      ),
    ],
  });
  // A style sheet would reach the page around it; what it says is said by attributes.
  svg.querySelectorAll("style").forEach((style) => style.remove());
  for (const [name, value] of Object.entries({ x: 0, y: top, "font-family": FONT.family, "font-size": FONT.size })) {
    svg.setAttribute(name, String(value));
  }
  return svg.outerHTML;
}

/** Earlier series are wider, so that one below another stays visible where they coincide. */
function line(points: readonly Point[], name: string, names: readonly string[]): Plot.Markish {
  const strokeWidth = 2 + 1.75 * (names.length - 1 - names.indexOf(name));
  return Plot.line(points, {
    x: "x",
    y: "y",
    stroke: () => name,
    curve: "step-after",
    strokeWidth,
    ariaLabel: () => name,
  });
}

function legend(names: readonly string[], mark: string | undefined, y: number): string[] {
  let x = MARGIN;
  const parts: string[] = [];
  const place = (symbol: string, label: string): void => {
    parts.push(symbol, text(label, x + 28, y, FONT.size));
    x += 28 + label.length * FONT.size * LETTER + 24;
  };
  names.forEach((name, i) =>
    place(`<rect x="${x}" y="${y - 6}" width="22" height="4" fill="${COLOURS[i] as string}"/>`, name),
  );
  if (mark !== undefined) place(`<circle cx="${x + 16}" cy="${y - 4}" r="5" fill="#555"/>`, mark);
  return parts;
}

function text(content: string, x: number, y: number, size: number, weight = "normal"): string {
  const escaped = content.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  return `<text x="${x}" y="${y}" font-size="${size}" font-weight="${weight}">${escaped}</text>`;
}
