// @ts-check
// Runs all checks, then all tests. Each is run and reported even if an earlier one failed.
//
//   npm test [-- ARGUMENTS OF VITEST]     e.g. npm test -- --project pure
//
// The last line on stdout is "N passed, N failed": the tests as vitest counts them, and each check below as one.
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";

/**
 * A program and its arguments; programs other than node are those of node_modules.
 * @typedef {{ name: string, command: string[], env?: Record<string, string> }} Check
 */

const DRIVERS = { name: "Vulkan drivers", command: ["node", "scripts/ensure-vulkan.mjs", "--all"] };

/** TypeScript 7, which checks in a third of the time; what declares types needs TypeScript 5. */
const TSC = ["node", "node_modules/typescript-7/bin/tsc", "-p"];

/**
 * Checks in two lanes, which run at the same time; those of a lane run one after the other, as the package needs the build.
 * @type {Check[][]}
 */
const LANES = [
  [
    { name: "format", command: ["prettier", "--check", "--log-level", "warn", "."] },
    { name: "lint", command: ["oxlint"] },
  ],
  [
    { name: "build", command: ["npm", "run", "--silent", "build"] },
    { name: "package", command: ["publint", "--strict"] },
    { name: "licences of what ships", command: ["node", "scripts/licences.mjs", "--check"] },
    {
      name: "types of the package",
      command: ["attw", "--pack", ".", "--no-emoji"],
      // It packs what the build above has made, which npm would build once more.
      env: { npm_config_ignore_scripts: "true" },
    },
    { name: "types", command: [...TSC, "tsconfig.json"] },
    { name: "types of the core without Node", command: [...TSC, "tsconfig.core.json"] },
  ],
];

/** After which a command hangs, or its machine does. The tests take 10 to 28 on two cores where nothing else runs. */
const LIMIT_MINUTES = 60;

/** @typedef {{ passed: number, failed: number, skipped: number }} Counts */

/**
 * Runs a command in a separate process group, so that it can be ended together with all processes that it started.
 * @param {string[]} command
 * @param {"pipe" | "inherit"} output
 * @param {Record<string, string>} [variables] of the environment, in addition
 * @returns {Promise<{ ok: boolean, text: string }>}
 */
function run(command, output, variables = {}) {
  const [program = "", ...args] = command;
  const path = `${join("node_modules", ".bin")}${delimiter}${process.env.PATH ?? ""}`;
  const env = { ...process.env, ...variables, PATH: path };
  const child = spawn(program === "node" ? process.execPath : program, args, {
    env,
    stdio: ["ignore", output, output],
    detached: true,
  });
  let text = "";
  child.stdout?.on("data", (chunk) => (text += String(chunk)));
  child.stderr?.on("data", (chunk) => (text += String(chunk)));
  const stop = () => void (child.pid && process.kill(-child.pid, "SIGKILL"));
  const interrupt = () => {
    stop();
    process.exit(130);
  };
  const limit = setTimeout(() => {
    console.error(`"${program}" was stopped after ${LIMIT_MINUTES} minutes.`);
    stop();
  }, LIMIT_MINUTES * 60_000);
  process.once("SIGINT", interrupt).once("SIGTERM", interrupt);
  return new Promise((resolve) => {
    const end = (/** @type {{ ok: boolean, text: string }} */ result) => {
      clearTimeout(limit);
      process.off("SIGINT", interrupt).off("SIGTERM", interrupt);
      resolve(result);
    };
    child.on("error", (error) => end({ ok: false, text: `${program}: ${error.message}` }));
    child.on("close", (code) => end({ ok: code === 0, text }));
  });
}

/** @returns {Promise<Counts>} */
async function runChecks() {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  /** @param {Check} check */
  const runCheck = async ({ name, command, env }) => {
    const start = Date.now();
    const { ok, text } = await run(command, "pipe", env);
    counts[ok ? "passed" : "failed"] += 1;
    console.log(`${ok ? "ok    " : "FAILED"} ${name} (${((Date.now() - start) / 1000).toFixed(1)} s)`);
    if (!ok) console.log(`       ${command.join(" ")}\n${text.trimEnd()}\n`);
  };
  await runCheck(DRIVERS);
  await Promise.all(
    LANES.map(async (lane) => {
      for (const check of lane) await runCheck(check);
    }),
  );
  return counts;
}

/** @returns {Promise<Counts>} */
async function runTests() {
  const folder = mkdtempSync(join(tmpdir(), "safetape-test-"));
  const report = join(folder, "vitest.json");
  const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
  try {
    const { ok } = await run(["vitest", "run", ...reporters, ...process.argv.slice(2)], "inherit");
    return countTests(readReport(report), ok);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** @param {string} path */
function readReport(path) {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch {
    return { numPassedTests: 0, numFailedTests: 0, numPendingTests: 0, numTodoTests: 0, testResults: [] };
  }
}

/**
 * Counts tests. A file that cannot be loaded has no tests, and a run can fail without a failing test (a missing driver, an
 * error after the last test). Each of these counts as one failure, so that the counts never look better than the run.
 * @param {{ numPassedTests: number, numFailedTests: number, numPendingTests: number, numTodoTests: number,
 *   testResults: { status: string, assertionResults: { status: string, fullName: string }[] }[] }} report
 * @param {boolean} ok
 * @returns {Counts}
 */
function countTests(report, ok) {
  const brokenFiles = report.testResults.filter(
    ({ status, assertionResults }) =>
      status === "failed" && !assertionResults.some((assertion) => assertion.status === "failed"),
  );
  const failed = report.numFailedTests + brokenFiles.length;
  // The name of a test that does not run everywhere says why.
  const assertions = report.testResults.flatMap(({ assertionResults }) => assertionResults);
  for (const { fullName } of assertions.filter(({ status }) => status === "skipped" || status === "pending")) {
    console.log(`skipped: ${fullName}`);
  }
  return {
    passed: report.numPassedTests,
    failed: ok ? failed : Math.max(failed, 1),
    skipped: report.numPendingTests + report.numTodoTests,
  };
}

const checks = await runChecks();
const tests = await runTests();
const failed = checks.failed + tests.failed;
console.log(`checks: ${checks.passed} passed, ${checks.failed} failed`);
console.log(`tests:  ${tests.passed} passed, ${tests.failed} failed, ${tests.skipped} skipped`);
console.log(`${checks.passed + tests.passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
