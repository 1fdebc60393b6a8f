import { LIFETIMES, sumBytes } from "../../gpu/ledger";
import type { Bytes, Lifetime } from "../../gpu/ledger";
import type { Screen } from "./screen";

type Colours = Screen["colours"];

/** Glyph and colour of each lifetime; the glyphs differ, so that colours are not needed. */
const LIFETIME_STYLES: Readonly<
  Record<Lifetime, readonly [glyph: string, colour: "blue" | "yellow" | "green" | "magenta"]>
> = {
  weight: ["█", "blue"],
  state: ["▓", "yellow"],
  saved: ["▒", "green"],
  scratch: ["░", "magenta"],
};

/** A bar of `width` characters, filled to a share from 0 to 1. */
export function bar(share: number, width: number): string {
  const filled = Math.round(Math.min(1, Math.max(0, share)) * width);
  return "█".repeat(filled) + "░".repeat(width - filled);
}

/** Bytes by lifetime as parts of a bar whose complete width stands for `fullBytes`. */
export function memoryBar(bytes: Bytes, fullBytes: number, width: number, colours: Colours): string {
  let [endBytes, drawn, text] = [0, 0, ""];
  for (const lifetime of LIFETIMES) {
    endBytes += bytes[lifetime];
    const end = Math.round((endBytes / Math.max(1, fullBytes)) * width);
    const [glyph, colour] = LIFETIME_STYLES[lifetime];
    text += colours[colour](glyph.repeat(Math.max(0, end - drawn)));
    drawn = Math.max(drawn, end);
  }
  return text + " ".repeat(Math.max(0, width - drawn));
}

/** Bytes by lifetime in words, each after its glyph in the bar. */
export function memoryWords(bytes: Bytes, colours: Colours): string {
  return LIFETIMES.map((lifetime) => {
    const [glyph, colour] = LIFETIME_STYLES[lifetime];
    return `${colours[colour](glyph)} ${lifetime} ${megabytes(bytes[lifetime])}`;
  }).join("  ");
}

const EIGHTHS = ["·", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];

/** One character per layer, the lowest first: it fills as the layer's tensors freeze. */
export function layerRow(layers: ReadonlyMap<number, readonly string[]>, frozen: ReadonlySet<string>): string {
  return [...layers.keys()]
    .sort((a, b) => a - b)
    .map((layer) => {
      const names = layers.get(layer)!;
      const count = names.filter((name) => frozen.has(name)).length;
      // A layer is full only without live tensors, and empty only without frozen ones.
      return EIGHTHS[count === names.length ? 8 : Math.min(7, Math.ceil((8 * count) / names.length))]!;
    })
    .join("");
}

export const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;

/** The sum over lifetimes. */
export const totalMegabytes = (bytes: Bytes): string => megabytes(sumBytes(bytes));
