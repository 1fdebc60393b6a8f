// @ts-check
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/**
 * The licence text in a package: a separate file or, in a few packages, the end of the README.
 * @param {string} folder the package's folder
 * @returns {string | undefined} undefined if the package contains no licence text
 */
export function licenceText(folder) {
  const files = readdirSync(folder);
  /** @param {RegExp} name */
  const read = (name) => {
    const file = files.find((path) => name.test(path));
    return file === undefined ? "" : readFileSync(join(folder, file), "utf8").replaceAll("\r", "");
  };
  const text = read(/^licen[cs]e/i) || /#+ licen[cs]e\s*\n([\s\S]*)$/i.exec(read(/^readme/i))?.[1];
  return text?.trim() || undefined;
}
