// @ts-check
// Compares the speed of two checkouts of this engine at the workloads of `bench:peers`, in alternating turns on one adapter.
//
//   node scripts/compare-speed.mjs BEFORE OUT.json [FIRST [LAST]]     BEFORE has node_modules; workloads by their numbers, from 0
//
// By the clock where the machine is idle; the time of all cores is that of a software adapter, also where others use the machine.
// Both sides start anew a few times: on shared cores, one process of the same code took 195 ms of all cores for a LoRA layer of
// 2048 x 2048 and the next one 330 ms, with little spread within each. So the fastest turns say most.
// Rows that OUT.json has of the same two commits stay, so that a comparison can be made in parts.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const PROGRAM = "bench/turns.ts";
/** Processes of each side, one after the other. */
const PROCESSES = 4;
/** Turns of each process at a workload: at least so many, and more for so many milliseconds of both sides together. */
const [FEWEST_TURNS, MOST_TURNS, BUDGET_MS] = [3, 8, 1000];

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
    close: async () => {
      child.stdin.end();
      if (child.exitCode === null) await once(child, "exit");
      if (isAdded) rmSync(program);
    },
  };
}

/** @param {readonly number[]} values */
const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;
/** @param {number} value */
const round = (value) => Number(value.toPrecision(3));

/** @typedef {{ ms: number, cpuMs: number }} Turn */
/** @typedef {{ name: string, turns: { before: Turn, after: Turn }[] }} Turns */

/**
 * Times a workload on both sides in turn; undefined if there are not so many.
 * @param {ReturnType<typeof side>} before
 * @param {ReturnType<typeof side>} after
 * @param {number} workload
 * @returns {Promise<Turns | undefined>}
 */
async function compare(before, after, workload) {
  // The first turn of each makes it ready.
  const [first, second] = [await before.turn(workload), await after.turn(workload)];
  if (!first || !second) return undefined;
  if (first.name !== second.name) throw new Error(`Workload ${workload} is "${first.name}" and "${second.name}".`);
  /** @type {Turns["turns"]} */
  const turns = [];
  const start = performance.now();
  while (turns.length < FEWEST_TURNS || (turns.length < MOST_TURNS && performance.now() - start < BUDGET_MS)) {
    const pair = { before: await before.turn(workload), after: await after.turn(workload) };
    if (pair.before && pair.after) turns.push({ before: pair.before, after: pair.after });
  }
  return { name: first.name, turns };
}

/**
 * The figures of a workload.
 * @param {Turns} turns
 */
function rowOf({ name, turns }) {
  /**
   * @param {"ms" | "cpuMs"} time
   * @param {(values: readonly number[]) => number} choose
   */
  const figures = (time, choose) => {
    const before = choose(turns.map((turn) => turn.before[time]));
    const after = choose(turns.map((turn) => turn.after[time]));
    return { before: round(before), after: round(after), "before / after": round(before / after) };
  };
  /** @param {readonly number[]} values */
  const least = (values) => Math.min(...values);
  return {
    workload: name,
    turns: turns.length,
    ms: figures("ms", median),
    "ms of all cores": figures("cpuMs", median),
    "fastest, ms of all cores": figures("cpuMs", least),
  };
}

const [beforeRoot, out, from = "0", to = "Infinity"] = process.argv.slice(2);
if (!beforeRoot || !out) {
  console.error("Usage: node scripts/compare-speed.mjs BEFORE OUT.json [FIRST [LAST]]");
  process.exit(2);
}
const stored = existsSync(out) ? JSON.parse(readFileSync(out, "utf8")) : {};
/** @type {Map<string, ReturnType<typeof rowOf>>} */
let rows = new Map();
/** @type {Turns[]} */
const measured = [];
for (let started = 0; started < PROCESSES; started++) {
  const [before, after] = [side(resolve(beforeRoot)), side(ROOT)];
  try {
    const isSame = stored.before === before.commit && stored.after === after.commit;
    if (rows.size === 0 && isSame) {
      rows = new Map(stored.rows.map((/** @type {ReturnType<typeof rowOf>} */ row) => [row.workload, row]));
    }
    for (let workload = Number(from); workload <= Number(to); workload++) {
      const result = await compare(before, after, workload);
      if (!result) break;
      const turns = [...(measured[workload]?.turns ?? []), ...result.turns];
      const row = rowOf((measured[workload] = { name: result.name, turns }));
      console.log(workload, JSON.stringify(row));
      rows.set(row.workload, row);
      const date = new Date().toISOString().slice(0, 10);
      const versions = { before: before.commit, after: after.commit, node: process.version, date };
      writeFileSync(out, `${JSON.stringify({ ...versions, rows: [...rows.values()] }, null, 1)}\n`);
    }
  } finally {
    await Promise.all([before.close(), after.close()]);
  }
}
