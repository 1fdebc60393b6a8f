/** Whether a pattern occurs in a text. `RegExp.test` continues after the last match where the pattern has the flag `g`. */
export const occurs = (pattern: RegExp, text: string): boolean => text.search(pattern) >= 0;

/** A pattern as a text, for records and checkpoints: its source, with those flags that decide what it matches. */
export function patternText({ source, flags }: RegExp): string {
  const deciding = flags.replace(/[dg]/g, "");
  return deciding === "" ? source : `/${source}/${deciding}`;
}
