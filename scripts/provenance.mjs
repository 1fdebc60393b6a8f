// @ts-check
// Where a figure came from: adapter, driver, commit, Node. Every committed result carries it.
import { spawnSync } from "node:child_process";

/** @param {{ vendor: string, device: string, description: string }} [info] where a GPU was used */
export function provenance(info) {
  return {
    ...(info && { adapter: info.device || info.vendor, driver: info.description }),
    commit: commit(),
    node: process.version,
    date: new Date().toISOString().slice(0, 10),
  };
}

/** The checkout's commit, marked where files (but results) differ from it; "unknown" outside of one. */
function commit() {
  /** @param {string[]} args */
  const git = (...args) => spawnSync("git", args, { encoding: "utf8" });
  const head = git("rev-parse", "--short", "HEAD");
  if (head.status !== 0) return "unknown";
  const changed =
    git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!bench/results").stdout.trim() !== "";
  return head.stdout.trim() + (changed ? "-dirty" : "");
}
