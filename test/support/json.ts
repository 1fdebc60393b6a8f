import { readFileSync } from "node:fs";

/**
 * Parses JSON whose form the caller knows, since it wrote it or compares it field by field. The form is not checked here:
 * JSON of another form makes the caller's comparisons fail.
 */
// oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- the caller says what the file holds
export const parseJson = <T>(text: string): T => JSON.parse(text) as T;

/** Reads a JSON file whose form the caller knows, as `parseJson` does. */
// oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- the caller says what the file holds
export const readJson = <T>(path: string): T => parseJson<T>(readFileSync(path, "utf8"));
