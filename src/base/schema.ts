/** Whether an issue of a schema is that of a key, and which: a value that is undefined counts as a key that is missing. */
export function keyFault(issue: {
  readonly received: string;
  readonly expected: string | null;
}): "missing" | "unknown" | undefined {
  if (issue.received === "undefined") return "missing";
  return issue.expected === "never" ? "unknown" : undefined;
}

/** What is wrong with a value by an issue of a schema: "is 1.5; expected integer", "has 0 entries; expected >=1". */
export function valueFault(issue: {
  readonly type: string;
  readonly received: string;
  readonly expected: string | null;
  readonly message: string;
}): string {
  const { type, received, expected, message } = issue;
  if (type === "check" || type === "custom") return `is refused: ${message}`;
  const counts = type.endsWith("length") || type === "non_empty";
  return `${counts ? `has ${received} entries` : `is ${received}`}; expected ${expected ?? type}`;
}
