// @ts-check
// Compares the speed of two checkouts of this engine at the workloads of `bench:peers`, in alternating turns on one adapter.
//
//   node scripts/compare-speed.mjs BEFORE OUT.json [FIRST [LAST]]     BEFORE has node_modules; workloads by their numbers, from 0
//
// By the clock where the machine is idle; the time of all cores is that of a software adapter, also where others use the machine.
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
    /**
     * One turn.
     * @param {number} workload
     * @returns {Promise<{ name: string, ms: number, cpuMs: number } | null>} null if there are not so many workloads
     */
    turn: async (workload) => {
      child.stdin.write(`${workload}\n`);
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
 * Times a workload on both sides in turn; undefined if there are not so many.
 * @param {ReturnType<typeof side>} before
 * @param {ReturnType<typeof side>} after
 * @param {number} workload
 */
async function compare(before, after, workload) {
  // The first turn of each makes it ready.
  const [first, second] = [await before.turn(workload), await after.turn(workload)];
  if (!first || !second) return undefined;
  if (first.name !== second.name) throw new Error(`Workload ${workload} is "${first.name}" and "${second.name}".`);
  /** @type {{ before: { ms: number, cpuMs: number }, after: { ms: number, cpuMs: number } }[]} */
  const turns = [];
  const start = performance.now();
  while (turns.length < FEWEST_TURNS || (turns.length < MOST_TURNS && performance.now() - start < BUDGET_MS)) {
    const pair = { before: await before.turn(workload), after: await after.turn(workload) };
    if (pair.before && pair.after) turns.push({ before: pair.before, after: pair.after });
  }
  /** @param {"ms" | "cpuMs"} time */
  const figures = (time) => ({
    before: round(median(turns.map((turn) => turn.before[time]))),
    after: round(median(turns.map((turn) => turn.after[time]))),
    "before / after": round(median(turns.map((turn) => turn.before[time] / turn.after[time]))),
  });
  return { workload: first.name, turns: turns.length, ms: figures("ms"), "ms of all cores": figures("cpuMs") };
}

const [beforeRoot, out, from = "0", to = "Infinity"] = process.argv.slice(2);
if (!beforeRoot || !out) {
  console.error("Usage: node scripts/compare-speed.mjs BEFORE OUT.json [FIRST [LAST]]");
  process.exit(2);
}
const [before, after] = [side(resolve(beforeRoot)), side(ROOT)];
try {
  const stored = existsSync(out) ? JSON.parse(readFileSync(out, "utf8")) : {};
  const isSame = stored.before === before.commit && stored.after === after.commit;
  /** @type {NonNullable<Awaited<ReturnType<typeof compare>>>[]} */
  let rows = isSame ? stored.rows : [];
  for (let workload = Number(from); workload <= Number(to); workload++) {
    const row = await compare(before, after, workload);
    if (!row) break;
    console.log(workload, JSON.stringify(row));
    rows = [...rows.filter((other) => other.workload !== row.workload), row];
    const date = new Date().toISOString().slice(0, 10);
    const contents = { before: before.commit, after: after.commit, node: process.version, date, rows };
    writeFileSync(out, `${JSON.stringify(contents, null, 1)}\n`);
  }
} finally {
  before.close();
  after.close();
}
