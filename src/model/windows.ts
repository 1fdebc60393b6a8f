/** Square windows on a square map of tokens, which is filled up to whole windows and rolled by `shift` before it is cut. */
export interface Windows {
  /** Tokens of a side of the map. */
  readonly side: number;
  /** Tokens of a side of a window. */
  readonly window: number;
  readonly shift: number;
}

/** Windows in a row of the map. */
const across = ({ side, window }: Windows): number => Math.ceil(side / window);

/** Number of windows. */
export const windowCount = (windows: Windows): number => across(windows) ** 2;

/** Whether the only window is the map itself. */
export const isWhole = ({ side, window }: Windows): boolean => side === window;

/** Whether the map is filled up. */
export const isPadded = ({ side, window }: Windows): boolean => side % window !== 0;

/** What `of` gives for the row and the column, on the rolled map, of every place of every window. */
function ofPlaces(windows: Windows, of: (row: number, column: number) => number): Int32Array {
  const { window } = windows;
  const [count, perRow] = [windowCount(windows), across(windows)];
  return Int32Array.from({ length: count * window ** 2 }, (_, i) => {
    const [index, place] = [Math.floor(i / window ** 2), i % window ** 2];
    const row = Math.floor(index / perRow) * window + Math.floor(place / window);
    return of(row, (index % perRow) * window + (place % window));
  });
}

/** The token of the map at every place of every window; -1 for what fills the map up. */
export function windowTokens(windows: Windows): Int32Array {
  const { side, window, shift } = windows;
  const padded = across(windows) * window;
  const unrolled = (place: number): number => (place + shift) % padded;
  return ofPlaces(windows, (row, column) => {
    const [y, x] = [unrolled(row), unrolled(column)];
    return y < side && x < side ? y * side + x : -1;
  });
}

/** The part of the map to which every place of every window belongs: tokens that rolling made neighbours do not see each other. */
export function windowRegions(windows: Windows): Int32Array {
  const { window, shift } = windows;
  const padded = across(windows) * window;
  const part = (place: number): number => Number(place >= padded - window) + Number(place >= padded - shift);
  return ofPlaces(windows, (row, column) => 3 * part(row) + part(column));
}

/** The four tokens of every square of two by two, column by column; -1 where the map ends before the square does. */
export function mergedTokens(side: number): Int32Array {
  const half = Math.ceil(side / 2);
  return Int32Array.from({ length: 4 * half ** 2 }, (_, i) => {
    const [square, corner] = [Math.floor(i / 4), i % 4];
    const y = 2 * Math.floor(square / half) + (corner % 2);
    const x = 2 * (square % half) + Math.floor(corner / 2);
    return y < side && x < side ? y * side + x : -1;
  });
}

/** For each of so many tokens its place among the others' list of them; -1 where there is none. */
export function placesOf(tokens: Int32Array, count: number): Int32Array {
  const places = new Int32Array(count).fill(-1);
  tokens.forEach((token, place) => {
    if (token >= 0) places[token] = place;
  });
  return places;
}
