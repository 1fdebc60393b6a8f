// @ts-check
// A plugin of esbuild that writes the licences of all packages in a bundle into one file next to it.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { licenceText } from "./licence-text.mjs";

/** Matches the package's folder in the path of one of its files. */
const PACKAGE = /^.*node_modules\/(?:@[^/]+\/)?[^/]+/;
const SEPARATOR = `\n${"-".repeat(80)}\n\n`;

/**
 * @param {string} file name of the file in the bundle's folder
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
        writeFileSync(join(folder, file), texts.join(SEPARATOR));
      });
    },
  };
}

/** @param {string} folder the package's folder */
function licenceOf(folder) {
  const { name, version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  return `${name} ${version} (${license})\n\n${licenceText(folder) ?? "The package does not contain its text."}\n`;
}
