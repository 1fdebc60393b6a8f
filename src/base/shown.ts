/** What was given in place of something else, in an error: a word, a number, or the members of an object. */
export function shown(value: unknown): string {
  if (typeof value !== "object" || value === null)
    return typeof value === "string" ? JSON.stringify(value.slice(0, 200)) : String(value);
  if (Array.isArray(value)) return `an array of ${value.length}`;
  const names = Object.keys(value);
  return `an object with ${names.slice(0, 4).join(", ") || "no members"}${names.length > 4 ? " and more" : ""}`;
}
