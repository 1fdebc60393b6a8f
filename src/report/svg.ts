import * as Plot from "@observablehq/plot";
import { parseHTML } from "linkedom";
import { escapeText } from "./text";

/** Colours of Okabe and Ito: distinguishable with any colour vision, and visible on white and on black. */
export const COLOURS = {
  blue: "#0072B2",
  vermilion: "#D55E00",
  green: "#009E73",
  pink: "#CC79A7",
  orange: "#E69F00",
  sky: "#56B4E9",
} as const;

/** Width of every figure. Its height depends on its panels. */
export const WIDTH = 880;
export const FONT = { family: "DejaVu Sans, Verdana, sans-serif", size: 13, small: 11 };
export const MARGINS = { marginLeft: 68, marginRight: 24, marginTop: 30, marginBottom: 46 };

/** A chart as an SVG element at the origin. */
export interface Panel {
  readonly svg: string;
  readonly width: number;
  readonly height: number;
}

/** A figure of one or more panels under a legend, with its title and caption. */
export interface Figure {
  /** Name of its file, without an extension. */
  readonly name: string;
  readonly title: string;
  /** Describes the content in one sentence, also for screen readers. */
  readonly caption: string;
  readonly height: number;
  /** Legend and panels at the origin, without the enclosing element. */
  readonly body: string;
}

/** An entry of a legend. */
export interface Key {
  readonly label: string;
  readonly colour: string;
  readonly as: "area" | "line" | "dashes" | "dot" | "rule" | "cell";
}

/** Draws a panel with Observable Plot. Attributes replace its style sheet, which would affect the complete page. */
export function panel({ height, width = WIDTH, ...options }: Plot.PlotOptions & { readonly height: number }): Panel {
  const { document } = parseHTML("<!doctype html><html><body></body></html>");
  const svg = Plot.plot({ ...MARGINS, ...options, document, width, height });
  svg.querySelectorAll("style").forEach((style) => style.remove());
  const attributes = { "font-family": FONT.family, "font-size": FONT.size, overflow: "visible" };
  for (const [name, value] of Object.entries(attributes)) svg.setAttribute(name, String(value));
  for (const name of ["class", "viewBox"]) svg.removeAttribute(name);
  return { svg: svg.outerHTML, width, height };
}

/** A horizontal axis. Its label contains the unit. */
export const xAxis = (label: string): Plot.ScaleOptions => ({ label, labelAnchor: "center", labelArrow: "none" });

/** A vertical axis with grid lines. Its label contains the unit. */
export const yAxis = (label: string): Plot.ScaleOptions => ({ label, labelArrow: "none", grid: true });

/** Height of a line of the legend. */
const LINE_HEIGHT = 20;
/** Mean width of a letter as a share of the font size. */
const LETTER_WIDTH = 0.62;

/** Approximate width of a text. */
export const textWidth = (text: string, size = FONT.size): number => text.length * size * LETTER_WIDTH;

/** A figure with a legend above rows of panels. */
export function figure(
  labels: Pick<Figure, "name" | "title" | "caption">,
  keys: readonly Key[],
  rows: readonly (Panel | readonly Panel[])[],
): Figure {
  const { parts, height: top } = legend(keys);
  let y = top;
  for (const row of rows) {
    const panels = "svg" in row ? [row] : row;
    let x = 0;
    for (const { svg, width } of panels) {
      parts.push(`<g transform="translate(${x}, ${y})">${svg}</g>`);
      x += width;
    }
    y += Math.max(...panels.map(({ height }) => height));
  }
  return { ...labels, height: y + 4, body: parts.join("\n") };
}

/** Items in rows of two; the last row may have only one. */
export function pairs<T>(items: readonly T[]): T[][] {
  return Array.from({ length: Math.ceil(items.length / 2) }, (_, i) => items.slice(2 * i, 2 * i + 2));
}

function legend(keys: readonly Key[]): { parts: string[]; height: number } {
  const parts: string[] = [];
  let [x, y] = [MARGINS.marginLeft, LINE_HEIGHT];
  for (const key of keys) {
    const width = 30 + textWidth(key.label) + 20;
    if (x + width > WIDTH && x > MARGINS.marginLeft) [x, y] = [MARGINS.marginLeft, y + LINE_HEIGHT];
    parts.push(symbol(key, x, y), text(key.label, x + 30, y));
    x += width;
  }
  return { parts, height: keys.length > 0 ? y + 14 : 0 };
}

function symbol({ as, colour }: Key, x: number, y: number): string {
  const line = (attributes: string): string =>
    `<line x1="${x}" x2="${x + 22}" y1="${y - 4}" y2="${y - 4}" stroke="${colour}" ${attributes}/>`;
  if (as === "line") return line('stroke-width="3"');
  if (as === "dashes") return line('stroke-width="2" stroke-dasharray="6 4"');
  if (as === "dot") return `<circle cx="${x + 16}" cy="${y - 4}" r="5" fill="${colour}"/>`;
  if (as === "rule")
    return `<line x1="${x + 16}" x2="${x + 16}" y1="${y - 13}" y2="${y + 4}" stroke="${colour}" stroke-width="2"/>`;
  return `<rect x="${x}" y="${y - 11}" width="22" height="13" fill="${colour}" fill-opacity="${as === "cell" ? 0.25 : 1}"/>`;
}

/** A line of text in the page's text colour. */
function text(content: string, x: number, y: number, size = FONT.size, weight = "normal"): string {
  return `<text x="${x}" y="${y}" font-size="${size}" font-weight="${weight}" fill="currentColor">${escapeText(content)}</text>`;
}

/** A figure as a part of a page, in the page's colours. */
export function inlineSvg({ name, title, caption, height, body }: Figure): string {
  const [titleId, captionId] = [`${name}-title`, `${name}-caption`];
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" role="img" ` +
    `aria-labelledby="${titleId}" aria-describedby="${captionId}" font-family="${FONT.family}">` +
    `<title id="${titleId}">${escapeText(title)}</title><desc id="${captionId}">${escapeText(caption)}</desc>` +
    `${body}</svg>`
  );
}

/** A figure as an SVG file, black on white, with its title and a subtitle. */
export function standaloneSvg({ title, height: bodyHeight, body }: Figure, subtitle: string): string {
  const [margin, top] = [12, 64];
  const [width, height] = [WIDTH + 2 * margin, bodyHeight + top + margin];
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" ` +
    `font-family="${FONT.family}" color="#1a1a1a">\n<rect width="${width}" height="${height}" fill="white"/>\n` +
    `${text(title, margin, 28, 17, "bold")}\n${text(subtitle, margin, 48, 12)}\n` +
    `<g transform="translate(${margin}, ${top})">${body}</g>\n</svg>\n`
  );
}
