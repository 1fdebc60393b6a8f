import { ConfigError } from "../base/errors";

/** Which values an option may have, and their description for the remedy. */
interface Allowed {
  readonly test: (value: unknown) => boolean;
  readonly description: string;
}

export const numbers = (test: (value: number) => boolean, description: string): Allowed => ({
  test: (value) => typeof value === "number" && test(value),
  description,
});

export const FROM_0 = numbers((value) => value >= 0 && value < Infinity, "a number from 0");
export const SHARE = numbers((value) => value >= 0 && value <= 1, "a share from 0 to 1");
export const WHOLE_FROM_1 = numbers((value) => Number.isInteger(value) && value >= 1, "a whole number from 1");
export const WHOLE_FROM_0 = numbers((value) => Number.isInteger(value) && value >= 0, "a whole number from 0");
export const FLAG: Allowed = { test: (value) => typeof value === "boolean", description: "true or false" };
export const oneOf = (words: readonly string[]): Allowed => ({
  test: (value) => words.some((word) => word === value),
  description: `one of ${words.join(", ")}`,
});

/**
 * Checks the options of a policy, which may come from JSON. An option that is undefined has its default.
 * @throws ConfigError that names the first one whose value is not allowed, and what it may be.
 */
export function checkOptions<Options extends object>(
  policy: string,
  options: Options,
  allowed: { readonly [Name in keyof Options]?: Allowed },
): void {
  for (const [name, value] of Object.entries(options)) {
    // Object.entries forgets which names the keys have.
    const rule = allowed[name as keyof Options];
    if (rule === undefined || value === undefined || rule.test(value)) continue;
    const shown = typeof value === "number" ? String(value) : JSON.stringify(value);
    throw new ConfigError(`${policy}: ${name} is ${shown}.`, `Give ${rule.description}.`);
  }
}
