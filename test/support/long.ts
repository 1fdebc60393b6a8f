import { it } from "vitest";

/** Whether suites run whole, as in `npm run test:long`. `npm test` runs a part of the longest ones. */
export const isLong = process.env["SAFETAPE_LONG"] !== undefined;

/** Every `nth` case from the first one on; all of them in `npm run test:long`. */
export const some = <T>(cases: readonly T[], nth: number): T[] => cases.filter((_, i) => isLong || i % nth === 0);

/** A test that takes long, and tests together what others test one by one: it runs in `npm run test:long` alone. */
export const itLong = (name: string, body: () => Promise<void>, timeout?: number): void =>
  it.skipIf(!isLong)(isLong ? name : `${name} (skipped: npm run test:long has it)`, body, timeout);
