import type { continueTexts as continueNow } from "./continue";

/** `continueTexts`, loaded by the first who generates: most programs only train. */
export const continueTexts: typeof continueNow = async (...given) =>
  (await import("./continue")).continueTexts(...given);
