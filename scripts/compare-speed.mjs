// @ts-check
// Compares the speed of two checkouts of this engine at the workloads of `bench:peers`, in alternating turns on one adapter.
//
//   node scripts/compare-speed.mjs BEFORE OUT.json [PART OF A WORKLOAD'S NAME ...]     BEFORE has node_modules
//
// Rows that OUT.json has of the same two commits stay, so that a comparison can be made in parts.
import { execFileSync, spawn } from "node:child_process";
import { copyFileSync, existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const PROGRAM = "bench/turns.ts";
/** Turns of each side at a workload: at least so many, and more for so many milliseconds of both together. */
const [FEWEST_TURNS, MOST_TURNS, BUDGET_MS] = [5, 25, 4000];

/**
 * One checkout, with a process of its own that waits while the other runs.
 * @param {string} root
 */
function side(root) {
  const program = join(root, PROGRAM);
  const isAdded = !existsSync(program);
  if (isAdded) copyFileSync(join(ROOT, PROGRAM), program);
  const commit = execFileSync("git", ["rev-parse", "--short", "HEAD"], { cwd: root, encoding: "utf8" }).trim();
  const child = spawn(process.execPath, ["scripts/run.mjs", PROGRAM], {
    cwd: root,
    stdio: ["pipe", "pipe", "inherit"],
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    commit,
    /** @param {string} name of a workload, or nothing */
    ask: async (name) => {
      child.stdin.write(`${name}\n`);
      const { value, done } = await lines.next();
      if (done) throw new Error(`The program ended in ${root}.`);
      return JSON.parse(value);
    },
    close: () => {
      child.stdin.end();
      if (isAdded) rmSync(program);
    },
  };
}

/** @param {readonly number[]} values */
const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;
/** @param {number} value */
const round = (value) => Number(value.toPrecision(3));

/**
 * Times a workload on both sides in turn.
 * @param {ReturnType<typeof side>} before
 * @param {ReturnType<typeof side>} after
 * @param {string} name
 */
async function compare(before, after, name) {
  // The first turn of each makes it ready.
  await before.ask(name);
  await after.ask(name);
  /** @type {{ before: number[], after: number[] }} */
  const times = { before: [], after: [] };
  const start = performance.now();
  while (
    times.after.length < FEWEST_TURNS ||
    (times.after.length < MOST_TURNS && performance.now() - start < BUDGET_MS)
  ) {
    times.before.push(await before.ask(name));
    times.after.push(await after.ask(name));
  }
  const ratio = median(times.before.map((ms, turn) => ms / (times.after[turn] ?? NaN)));
  return {
    workload: name,
    turns: times.after.length,
    "before, ms": round(median(times.before)),
    "after, ms": round(median(times.after)),
    "fastest before, ms": round(Math.min(...times.before)),
    "fastest after, ms": round(Math.min(...times.after)),
    "before / after, median of turns": round(ratio),
  };
}

const [beforeRoot, out, ...parts] = process.argv.slice(2);
if (!beforeRoot || !out) {
  console.error("Usage: node scripts/compare-speed.mjs BEFORE OUT.json [PART OF A NAME ...]");
  process.exit(2);
}
const [before, after] = [side(resolve(beforeRoot)), side(ROOT)];
try {
  /** @type {string[]} */
  const all = await before.ask("");
  const names = new Set(await after.ask(""));
  const stored = existsSync(out) ? JSON.parse(readFileSync(out, "utf8")) : {};
  const isSame = stored.before === before.commit && stored.after === after.commit;
  /** @type {Awaited<ReturnType<typeof compare>>[]} */
  const rows = isSame ? stored.rows : [];
  for (const name of all) {
    if (!names.has(name) || (parts.length > 0 && !parts.some((part) => name.includes(part)))) continue;
    const row = await compare(before, after, name);
    console.log(row);
    const place = rows.findIndex(({ workload }) => workload === name);
    rows.splice(place < 0 ? rows.length : place, place < 0 ? 0 : 1, row);
    const date = new Date().toISOString().slice(0, 10);
    const contents = { before: before.commit, after: after.commit, node: process.version, date, rows };
    writeFileSync(out, `${JSON.stringify(contents, null, 1)}\n`);
  }
} finally {
  before.close();
  after.close();
}
