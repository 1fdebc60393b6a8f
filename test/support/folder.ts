import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeEach } from "vitest";

/** Joins names to the path of a folder. Without names, it returns that path. */
export type PathIn = (...names: string[]) => string;

const newFolder = (): string => mkdtempSync(join(tmpdir(), "safetape-test-"));
const remove = (folder: string): void => rmSync(folder, { recursive: true, force: true });

/**
 * A new folder for every test of a file or of a `describe`, removed after the test.
 *
 *     const path = useFolder();
 *     it("writes", () => writeFileSync(path("a.txt"), "a"));
 */
export function useFolder(): PathIn {
  let folder = "";
  beforeEach(() => {
    folder = newFolder();
  });
  afterEach(() => remove(folder));
  return (...names) => join(folder, ...names);
}

/** One folder for all tests of a file or of a `describe`, created by this call and removed after the last test. */
export function useSharedFolder(): PathIn {
  const folder = newFolder();
  afterAll(() => remove(folder));
  return (...names) => join(folder, ...names);
}
