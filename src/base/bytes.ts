import { ConfigError } from "./errors";

/** A number of bytes, or a text as `8589934592`, `8GB` (1e9) or `8GiB` (2^30). */
export type ByteCount = number | string;

/** @throws ConfigError for what is no number of bytes above 0; `what` names it. */
export function parseBytes(given: ByteCount, what: string): number {
  const [, digits = "", unit = ""] = /^\s*(\d+(?:\.\d+)?)\s*([kMGT]i?B|B|)\s*$/.exec(String(given)) ?? [];
  const base = unit.includes("i") ? 1024 : 1000;
  const bytes = Math.floor(Number(digits) * base ** Math.max(0, "BkMGT".indexOf(unit.charAt(0) || "B")));
  if (bytes > 0) return bytes;
  throw new ConfigError(`${what} is ${given}.`, "Give bytes above 0, or a number with kB, MB, GB, MiB or GiB.");
}
