// @ts-check
// Lists the licences of what ships: the production dependencies, some of which lie in the browser's bundle.
//
//   node scripts/licences.mjs [--check]      writes THIRD-PARTY.md; with --check fails where it is not up to date
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { licenceText } from "./licence-text.mjs";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const FILE = join(ROOT, "THIRD-PARTY.md");
/** Licences under which code may be passed on as this package passes it on. */
const KNOWN = ["MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "0BSD"];

/** @typedef {{ name: string, version: string, license: string, repository: string, text: string }} Package */

/** @param {string} folder @returns {any} */
const manifest = (folder) => JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));

/**
 * Node's own search: the nearest node_modules that has the package.
 * @param {string} name @param {string} from @returns {string}
 */
function locate(name, from) {
  const folder = join(from, "node_modules", name);
  if (existsSync(join(folder, "package.json"))) return folder;
  if (dirname(from) === from) throw new Error(`${name} is not installed.\nRun: npm ci`);
  return locate(name, dirname(from));
}

/** @returns {Package[]} dependencies, and theirs, sorted */
function shipped() {
  /** @type {Map<string, Package>} */
  const found = new Map();
  /** @param {string} folder */
  const visit = (folder) => {
    for (const name of Object.keys(manifest(folder).dependencies ?? {})) {
      const place = locate(name, folder);
      const { version, license, repository } = manifest(place);
      const key = `${name} ${version}`;
      if (found.has(key)) continue;
      const address = typeof repository === "string" ? repository : (repository?.url ?? "");
      const text = licenceText(place) ?? "";
      found.set(key, { name, version, license: String(license), repository: webAddress(address), text });
      visit(place);
    }
  };
  visit(ROOT);
  return [...found.values()].sort((a, b) => (`${a.name} ${a.version}` < `${b.name} ${b.version}` ? -1 : 1));
}

/** @param {string} address as package.json has it */
function webAddress(address) {
  const path = address.replace(/^git\+|\.git$/g, "").replace(/^(?:github:|git:\/\/|ssh:\/\/git@)/, "");
  return /^https?:/.test(path) ? path : `https://${/^[\w-]+\/[\w.-]+$/.test(path) ? `github.com/${path}` : path}`;
}

/** @param {Package[]} packages */
function written(packages) {
  const rows = packages.map(
    ({ name, version, license, repository }) => `- ${name} ${version}: ${license}, ${repository}`,
  );
  const texts = packages.map(({ name, version, text, license }) => {
    const body = text || `${license} (the package has no file of its licence)`;
    return `## ${name} ${version}\n\n\`\`\`text\n${body.replace(/[ \t]+$/gm, "")}\n\`\`\`\n`;
  });
  return `# What ships with safetape\n\nWritten by \`npm run licences\`.\n\n${rows.join("\n")}\n\n${texts.join("\n")}`;
}

const packages = shipped();
const strange = packages.filter(({ license }) => !KNOWN.includes(license));
const text = written(packages);
const isCurrent = existsSync(FILE) && readFileSync(FILE, "utf8") === text;
if (strange.length > 0) {
  const names = strange.map(({ name, license }) => `${name} (${license})`).join(", ");
  console.error(
    `Licences that were not looked at ship: ${names}.\nLook at them, then add them to scripts/licences.mjs.`,
  );
  process.exitCode = 1;
} else if (process.argv.includes("--check")) {
  if (!isCurrent) console.error("THIRD-PARTY.md is not what ships.\nRun: npm run licences");
  process.exitCode = isCurrent ? 0 : 1;
} else {
  writeFileSync(FILE, text);
}
for (const { name, version, license } of packages) console.log(`${name} ${version}: ${license}`);
