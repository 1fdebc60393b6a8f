/** Whether an issue of a schema is that of a key, and which: a value that is undefined counts as a key that is missing. */
export function keyFault(issue: {
  readonly received: string;
  readonly expected: string | null;
}): "missing" | "unknown" | undefined {
  if (issue.received === "undefined") return "missing";
  return issue.expected === "never" ? "unknown" : undefined;
}
