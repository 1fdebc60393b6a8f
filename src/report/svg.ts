import * as Plot from "@observablehq/plot";
import { parseHTML } from "linkedom";
import { escapeText } from "./text";

/** Okabe and Ito's colours, which people with any colour vision tell apart, and which stand out on white and on black. */
export const COLOURS = {
  blue: "#0072B2",
  vermilion: "#D55E00",
  green: "#009E73",
  pink: "#CC79A7",
  orange: "#E69F00",
  sky: "#56B4E9",
} as const;

/** Width of every figure; heights are its panels' own. */
export const WIDTH = 880;
export const FONT = { family: "DejaVu Sans, Verdana, sans-serif", size: 13, small: 11 };
export const MARGINS = { marginLeft: 68, marginRight: 24, marginTop: 30, marginBottom: 46 };

/** A panel as SVG that stands at the top left. */
export interface Panel {
  readonly svg: string;
  readonly width: number;
  readonly height: number;
}

/** A figure with what is said of it. */
export interface Figure {
  /** Of its file. */
  readonly name: string;
  readonly title: string;
  /** What there is to see, in a sentence; for whoever hears the page too. */
  readonly caption: string;
  readonly height: number;
  /** Legend and panels, at the top left, without the element around them. */
  readonly body: string;
}

/** Key of a colour, a line or a mark. */
export interface Key {
  readonly label: string;
  readonly colour: string;
  readonly as: "area" | "line" | "dashes" | "dot" | "rule" | "cell";
}

/** Draws with Observable Plot; what its style sheet says is said by attributes, since a sheet would reach the whole page. */
export function panel({ height, width = WIDTH, ...options }: Plot.PlotOptions & { readonly height: number }): Panel {
  const { document } = parseHTML("<!doctype html><html><body></body></html>");
  const svg = Plot.plot({ ...MARGINS, ...options, document, width, height });
  svg.querySelectorAll("style").forEach((style) => style.remove());
  const own = { "font-family": FONT.family, "font-size": FONT.size, overflow: "visible" };
  for (const [name, value] of Object.entries(own)) svg.setAttribute(name, String(value));
  for (const name of ["class", "viewBox"]) svg.removeAttribute(name);
  return { svg: svg.outerHTML, width, height };
}

/** A horizontal axis with its unit. */
export const xAxis = (label: string): Plot.ScaleOptions => ({ label, labelAnchor: "center", labelArrow: "none" });

/** A vertical axis from 0 with its unit. */
export const yAxis = (label: string): Plot.ScaleOptions => ({ label, labelArrow: "none", grid: true });

const LINE = 20;
/** Mean width of a letter over its height. */
const LETTER = 0.62;

/** Roughly how wide a text is. */
export const textWidth = (text: string, size = FONT.size): number => text.length * size * LETTER;

/** Panels one below the other, or some of them side by side, under a legend. */
export function figure(
  what: Pick<Figure, "name" | "title" | "caption">,
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
  return { ...what, height: y + 4, body: parts.join("\n") };
}

function legend(keys: readonly Key[]): { parts: string[]; height: number } {
  const parts: string[] = [];
  let [x, y] = [MARGINS.marginLeft, LINE];
  for (const key of keys) {
    const wide = 30 + textWidth(key.label) + 20;
    if (x + wide > WIDTH && x > MARGINS.marginLeft) [x, y] = [MARGINS.marginLeft, y + LINE];
    parts.push(symbol(key, x, y), text(key.label, x + 30, y));
    x += wide;
  }
  return { parts, height: keys.length > 0 ? y + 14 : 0 };
}

function symbol({ as, colour }: Key, x: number, y: number): string {
  const line = (more: string): string =>
    `<line x1="${x}" x2="${x + 22}" y1="${y - 4}" y2="${y - 4}" stroke="${colour}" ${more}/>`;
  if (as === "line") return line('stroke-width="3"');
  if (as === "dashes") return line('stroke-width="2" stroke-dasharray="6 4"');
  if (as === "dot") return `<circle cx="${x + 16}" cy="${y - 4}" r="5" fill="${colour}"/>`;
  if (as === "rule")
    return `<line x1="${x + 16}" x2="${x + 16}" y1="${y - 13}" y2="${y + 4}" stroke="${colour}" stroke-width="2"/>`;
  return `<rect x="${x}" y="${y - 11}" width="22" height="13" fill="${colour}" fill-opacity="${as === "cell" ? 0.25 : 1}"/>`;
}

/** A line of text in the colour of the page's. */
export function text(content: string, x: number, y: number, size = FONT.size, weight = "normal"): string {
  return `<text x="${x}" y="${y}" font-size="${size}" font-weight="${weight}" fill="currentColor">${escapeText(content)}</text>`;
}

/** A figure as a part of a page, which gives its colours. */
export function inlineSvg({ name, title, caption, height, body }: Figure): string {
  const [titleId, captionId] = [`${name}-title`, `${name}-caption`];
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" role="img" ` +
    `aria-labelledby="${titleId}" aria-describedby="${captionId}" font-family="${FONT.family}">` +
    `<title id="${titleId}">${escapeText(title)}</title><desc id="${captionId}">${escapeText(caption)}</desc>` +
    `${body}</svg>`
  );
}

/** A figure as a file of its own, black on white, with its title. */
export function standaloneSvg({ title, height, body }: Figure, run: string): string {
  const [margin, top] = [12, 64];
  const [width, whole] = [WIDTH + 2 * margin, height + top + margin];
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${whole}" viewBox="0 0 ${width} ${whole}" ` +
    `font-family="${FONT.family}" color="#1a1a1a">\n<rect width="${width}" height="${whole}" fill="white"/>\n` +
    `${text(title, margin, 28, 17, "bold")}\n${text(run, margin, 48, 12)}\n` +
    `<g transform="translate(${margin}, ${top})">${body}</g>\n</svg>\n`
  );
}
