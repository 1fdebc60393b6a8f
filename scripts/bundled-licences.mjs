// @ts-check
// A plugin of esbuild that writes the licences of all packages that a bundle holds into one file beside it.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** A package's folder in the path of one of its files. */
const PACKAGE = /^.*node_modules\/(?:@[^/]+\/)?[^/]+/;
const RULE = `\n${"-".repeat(80)}\n\n`;

/**
 * @param {string} file name of the file, in the folder of the bundle
 * @returns {import("esbuild").Plugin}
 */
export function bundledLicences(file) {
  return {
    name: "licences",
    setup(build) {
      const { initialOptions } = build;
      initialOptions.metafile = true;
      build.onEnd(({ metafile }) => {
        const folders = Object.keys(metafile?.inputs ?? {}).flatMap((path) => PACKAGE.exec(path)?.[0] ?? []);
        const texts = [...new Set(folders)].sort().map(licenceOf);
        const folder = initialOptions.outdir ?? "dist";
        mkdirSync(folder, { recursive: true });
        writeFileSync(join(folder, file), texts.join(RULE));
      });
    },
  };
}

/** @param {string} folder of a package */
function licenceOf(folder) {
  const { name, version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const found = existsSync(folder) ? readdirSync(folder).find((path) => /^licen[cs]e/i.test(path)) : undefined;
  const text = found === undefined ? readmeLicence(folder) : readFileSync(join(folder, found), "utf8").trim();
  return `${name} ${version} (${license})\n\n${text}\n`;
}

/** A few packages have their licence at the end of their README. @param {string} folder */
function readmeLicence(folder) {
  const path = readdirSync(folder).find((file) => /^readme/i.test(file));
  const [, text] = /#+ licen[cs]e\s*\n([\s\S]*)$/i.exec(path ? readFileSync(join(folder, path), "utf8") : "") ?? [];
  return text?.trim() ?? "No text of it lies in the package.";
}
