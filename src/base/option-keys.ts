import { ConfigError } from "./errors";

/**
 * Checks that all options exist, which the compiler cannot do for JavaScript and for spread objects.
 * @param owner in the error: "A plan".
 * @throws ConfigError that names the first one that does not, and all that do.
 */
export function checkKeys(owner: string, options: object, known: readonly string[]): void {
  const unknown = Object.keys(options).find((name) => !known.includes(name));
  if (unknown === undefined) return;
  throw new ConfigError(`${owner} has no option ${unknown}.`, `Its options are ${known.join(", ") || "none"}.`);
}
