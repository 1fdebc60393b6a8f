import { readFileSync } from "node:fs";

/**
 * Parses JSON whose form a test knows: one that it wrote itself, or one that it compares field by field. Nothing is checked
 * here; what has another form fails the comparisons that follow.
 */
// eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters -- the caller says what the file holds
export const parseJson = <T>(text: string): T => JSON.parse(text) as T;

/** Reads such JSON from a file. */
// eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters -- the caller says what the file holds
export const readJson = <T>(path: string): T => parseJson<T>(readFileSync(path, "utf8"));
