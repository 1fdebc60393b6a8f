// @ts-check
// Lists the licences of everything that ships: the production dependencies, some of which are in the browser's bundle.
//
//   node scripts/licences.mjs [--check]      writes THIRD-PARTY.md; with --check, fails if the file is not up to date
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { licenceText } from "./licence-text.mjs";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const FILE = join(ROOT, "THIRD-PARTY.md");
/** Licences that allow redistribution as part of this package. */
const ALLOWED = ["MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "0BSD", "WordNet"];

/** @typedef {{ name: string, version: string, license: string, repository: string, text: string }} Package */

/** @param {string} folder @returns {any} */
const manifest = (folder) => JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));

/**
 * The package's folder in the nearest node_modules that has it, as Node searches for it.
 * @param {string} name @param {string} from @returns {string}
 */
function locate(name, from) {
  const folder = join(from, "node_modules", name);
  if (existsSync(join(folder, "package.json"))) return folder;
  if (dirname(from) === from) throw new Error(`${name} is not installed.\nRun: npm ci`);
  return locate(name, dirname(from));
}

/** @returns {Package[]} all direct and indirect dependencies, sorted */
function shipped() {
  /** @type {Map<string, Package>} */
  const packagesByVersion = new Map();
  /** @param {string} folder */
  const visit = (folder) => {
    for (const name of Object.keys(manifest(folder).dependencies ?? {})) {
      const path = locate(name, folder);
      const { version, license, repository } = manifest(path);
      const key = `${name} ${version}`;
      if (packagesByVersion.has(key)) continue;
      const address = typeof repository === "string" ? repository : (repository?.url ?? "");
      const text = licenceText(path) ?? "";
      packagesByVersion.set(key, { name, version, license: String(license), repository: webAddress(address), text });
      visit(path);
    }
  };
  visit(ROOT);
  return [...packagesByVersion.values()].sort((a, b) => (`${a.name} ${a.version}` < `${b.name} ${b.version}` ? -1 : 1));
}

/** Data in the sources that have an author of their own: a file, which begins with its licence as a comment. */
function embedded() {
  const file = "src/data/wordnet-exceptions.ts";
  const [comment = ""] = readFileSync(join(ROOT, file), "utf8").split("*/", 1);
  const text = comment.replace(/^\/\*!\n|^ \* ?/gm, "").trim();
  return { name: "WordNet's lists of irregular forms", version: "3.0", license: "WordNet", repository: file, text };
}

/** @param {string} address the repository's address in package.json */
function webAddress(address) {
  const path = address.replace(/^git\+|\.git$/g, "").replace(/^(?:github:|git:\/\/|ssh:\/\/git@)/, "");
  return /^https?:/.test(path) ? path : `https://${/^[\w-]+\/[\w.-]+$/.test(path) ? `github.com/${path}` : path}`;
}

/** The contents of THIRD-PARTY.md. @param {Package[]} packages */
function markdown(packages) {
  const rows = packages.map(
    ({ name, version, license, repository }) => `- ${name} ${version}: ${license}, ${repository}`,
  );
  const texts = packages.map(({ name, version, text, license }) => {
    const body = text || `${license} (the package has no file of its licence)`;
    return `## ${name} ${version}\n\n\`\`\`text\n${body.replace(/[ \t]+$/gm, "")}\n\`\`\`\n`;
  });
  return `# What ships with safetape\n\nWritten by \`npm run licences\`.\n\n${rows.join("\n")}\n\n${texts.join("\n")}`;
}

const packages = [...shipped(), embedded()];
const unchecked = packages.filter(({ license }) => !ALLOWED.includes(license));
const text = markdown(packages);
const isCurrent = existsSync(FILE) && readFileSync(FILE, "utf8") === text;
if (unchecked.length > 0) {
  const names = unchecked.map(({ name, license }) => `${name} (${license})`).join(", ");
  console.error(
    `Some licences have not been checked: ${names}.\nCheck them, then add them to ALLOWED in scripts/licences.mjs.`,
  );
  process.exitCode = 1;
} else if (process.argv.includes("--check")) {
  if (!isCurrent) console.error("THIRD-PARTY.md is not up to date.\nRun: npm run licences");
  process.exitCode = isCurrent ? 0 : 1;
} else {
  writeFileSync(FILE, text);
}
for (const { name, version, license } of packages) console.log(`${name} ${version}: ${license}`);
