// Runs all tests of the published bundle in Chromium, with all cases of all ops. Writes which passed, and their durations.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { provenance } from "../scripts/provenance.mjs";
import { chromiumPath } from "../test/browser/support/chromium";
import { publishedFolder, withStaticImports } from "../test/support/published";

interface Report {
  readonly testResults: readonly {
    readonly assertionResults: readonly {
      readonly status: string;
      readonly fullName: string;
      readonly ancestorTitles: readonly string[];
      readonly duration?: number | null;
    }[];
  }[];
}

const RESULT = join("bench", "results", "browser-swiftshader.json");

function runTests(): Report {
  const folder = mkdtempSync(join(tmpdir(), "safetape-bench-browser-"));
  const file = join(folder, "report.json");
  const args = ["vitest", "run", "--project", "browser", "--reporter=default", "--reporter=json"];
  const env = { ...process.env, SAFETAPE_BROWSER_CASES: "all" };
  try {
    spawnSync("npx", [...args, `--outputFile.json=${file}`], { stdio: "inherit", env });
    // Vitest's JSON reporter wrote this file.
    return JSON.parse(readFileSync(file, "utf8")) as Report;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Bytes of the core bundle and its static imports, each compressed with gzip. */
function coreBytes(): number {
  const folder = publishedFolder();
  const sizes = withStaticImports(folder, "core.js").map(
    (name) => gzipSync(readFileSync(join(folder, name)), { level: 9 }).length,
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}

const core = coreBytes();
const tests = runTests().testResults.flatMap(({ assertionResults }) => assertionResults);
const groups = [...new Set(tests.map(({ ancestorTitles }) => ancestorTitles.join(" ")))].map((title) => {
  const groupTests = tests.filter(({ ancestorTitles }) => ancestorTitles.join(" ") === title);
  return {
    title,
    passed: groupTests.filter(({ status }) => status === "passed").length,
    failed: groupTests.filter(({ status }) => status === "failed").map(({ fullName }) => fullName),
    seconds: Math.round(groupTests.reduce((sum, { duration }) => sum + (duration ?? 0), 0) / 1000),
  };
});
const version = spawnSync(chromiumPath(), ["--version"], { encoding: "utf8" }).stdout.trim();
const results = { browser: version, coreBytesMinifiedAndZipped: core, seed: 1, groups };
const origin = provenance({ vendor: "google", device: "SwiftShader", description: `SwiftShader of ${version}` });
writeFileSync(RESULT, `${JSON.stringify({ ...origin, results }, null, 1)}\n`);
for (const { title, passed, failed } of groups) console.log(`${title}: ${passed} passed, ${failed.length} failed`);
console.log(`core bundle, minified and zipped: ${core} bytes`);
process.exitCode = groups.some(({ failed }) => failed.length > 0) ? 1 : 0;
