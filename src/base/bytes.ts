import { ConfigError } from "./errors";

/** A number of bytes, or a string such as `"8589934592"`, `"8GB"` (8e9) or `"8GiB"` (8 * 2^30). */
export type ByteCount = number | string;

/**
 * Parses a number of bytes, rounded down to a whole one.
 *
 * @param name names the option in the error message.
 * @throws ConfigError unless `count` is a number of bytes above 0.
 */
export function parseBytes(count: ByteCount, name: string): number {
  const [, digits = "", unit = ""] = /^\s*(\d+(?:\.\d+)?)\s*([kMGT]i?B|B|)\s*$/.exec(String(count)) ?? [];
  const base = unit.includes("i") ? 1024 : 1000;
  const bytes = Math.floor(Number(digits) * base ** Math.max(0, "BkMGT".indexOf(unit.charAt(0) || "B")));
  if (bytes > 0) return bytes;
  throw new ConfigError(
    `${name} is ${count}.`,
    "Pass a number of bytes above 0, or a string such as 500MB, 8GB or 8GiB.",
  );
}
