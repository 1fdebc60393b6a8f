import { LIFETIMES, sumBytes } from "../../gpu/ledger";
import type { Bytes, Lifetime } from "../../gpu/ledger";
import type { Screen } from "./screen";

type Colours = Screen["colours"];

/** Lifetimes differ by glyph as well as by colour. */
const MEMORY: Readonly<Record<Lifetime, readonly [glyph: string, colour: "blue" | "yellow" | "green" | "magenta"]>> = {
  weight: ["█", "blue"],
  state: ["▓", "yellow"],
  saved: ["▒", "green"],
  scratch: ["░", "magenta"],
};

/** A bar that is filled to a share. */
export function bar(share: number, width: number): string {
  const filled = Math.round(Math.min(1, Math.max(0, share)) * width);
  return "█".repeat(filled) + "░".repeat(width - filled);
}

/** Bytes by lifetime as parts of a bar whose whole width stands for `most`. */
export function memoryBar(bytes: Bytes, most: number, width: number, colours: Colours): string {
  let [end, drawn, text] = [0, 0, ""];
  for (const lifetime of LIFETIMES) {
    end += bytes[lifetime];
    const until = Math.round((end / Math.max(1, most)) * width);
    const [glyph, colour] = MEMORY[lifetime];
    text += colours[colour](glyph.repeat(Math.max(0, until - drawn)));
    drawn = Math.max(drawn, until);
  }
  return text + " ".repeat(Math.max(0, width - drawn));
}

/** Bytes by lifetime in words, each after the glyph that it has in the bar. */
export function memoryWords(bytes: Bytes, colours: Colours): string {
  return LIFETIMES.map((lifetime) => {
    const [glyph, colour] = MEMORY[lifetime];
    return `${colours[colour](glyph)} ${lifetime} ${megabytes(bytes[lifetime])}`;
  }).join("  ");
}

const EIGHTHS = ["·", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];

/** A row of layers, from the lowest: each fills as its tensors freeze. */
export function layerRow(layers: ReadonlyMap<number, readonly string[]>, frozen: ReadonlySet<string>): string {
  return [...layers.keys()]
    .sort((a, b) => a - b)
    .map((layer) => {
      const names = layers.get(layer)!;
      const count = names.filter((name) => frozen.has(name)).length;
      // Only a layer without a live tensor is full, and one with a frozen one is not empty.
      return EIGHTHS[count === names.length ? 8 : Math.min(7, Math.ceil((8 * count) / names.length))]!;
    })
    .join("");
}

export const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;

/** Bytes in all. */
export const total = (bytes: Bytes): string => megabytes(sumBytes(bytes));

/** Seconds as 1:05 or 2:01:05. */
export function clock(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60)];
  const two = (value: number): string => String(value).padStart(2, "0");
  return hours > 0 ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}
