// @ts-check
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/**
 * The licence that lies in a package: a file of its own or, in a few, the end of the README.
 * @param {string} folder of the package
 * @returns {string | undefined} its text, where there is one
 */
export function licenceText(folder) {
  const files = readdirSync(folder);
  /** @param {RegExp} name */
  const read = (name) => {
    const file = files.find((path) => name.test(path));
    return file === undefined ? "" : readFileSync(join(folder, file), "utf8").replaceAll("\r", "");
  };
  const own = read(/^licen[cs]e/i) || /#+ licen[cs]e\s*\n([\s\S]*)$/i.exec(read(/^readme/i))?.[1];
  return own?.trim() || undefined;
}
