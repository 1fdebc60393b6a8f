/** A range [start, end) of a text, in UTF-16 units. */
export type Span = readonly [start: number, end: number];

/** A span without the white space at its ends, unless it is all white space. */
export function withoutSpace(text: string, [start, end]: Span): Span {
  const spanned = text.slice(start, end);
  if (spanned.trim() === "") return [start, end];
  return [start + (spanned.length - spanned.trimStart().length), end - (spanned.length - spanned.trimEnd().length)];
}
