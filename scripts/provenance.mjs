// @ts-check
// The origin of a figure: adapter, driver, commit, Node's version and date. Every committed result contains it.
import { spawnSync } from "node:child_process";

/** @param {{ vendor: string, device: string, description: string }} [info] of the adapter, if a GPU was used */
export function provenance(info) {
  return {
    ...(info && { adapter: info.device || info.vendor, driver: info.description }),
    commit: commit(),
    node: process.version,
    date: new Date().toISOString().slice(0, 10),
  };
}

/** Set to the commit where results are made away from the checkout. */
export const COMMIT_VARIABLE = "SAFETAPE_COMMIT";

/** The commit, with the suffix "-dirty" if tracked files other than results differ from it; "unknown" outside a checkout. */
export function commit() {
  const known = process.env[COMMIT_VARIABLE];
  if (known) return known;
  /** @param {string[]} args */
  const git = (...args) => spawnSync("git", args, { encoding: "utf8" });
  const head = git("rev-parse", "--short", "HEAD");
  if (head.status !== 0) return "unknown";
  const changed =
    git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!bench/results").stdout.trim() !== "";
  return head.stdout.trim() + (changed ? "-dirty" : "");
}
