import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { Engine } from "../../src/engine";
import { adapterName } from "./results";

/** Something that tells from outside how much memory this process has. */
export interface Meter {
  readonly name: string;
  read(): number;
}

/**
 * glibc's malloc, from which a software driver takes its memory, keeps freed blocks unless these bounds are fixed
 * (mallopt(3)): then what the process keeps is what the engine and the driver keep.
 */
export const MALLOC = { MALLOC_MMAP_THRESHOLD_: String(2 ** 18), MALLOC_TRIM_THRESHOLD_: "0", MALLOC_ARENA_MAX: "1" };

const MEBI = 1024 ** 2;

/** Resident bytes of this process: a software adapter's device memory is part of it. */
export function residentBytes(): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync("/proc/self/status", "utf8"))?.[1]) * 1024;
}

/** The meter that sees an adapter's buffers. */
export function meterOf(engine: Engine): Meter {
  return adapterName(engine) === "nvidia" ? nvidiaMeter() : { name: "resident bytes", read: residentBytes };
}

/** What nvidia-smi counts for this process; for all GPUs where it sees no processes (in a container). */
function nvidiaMeter(): Meter {
  const ask = (query: string): string =>
    execFileSync("nvidia-smi", [query, "--format=csv,noheader,nounits"], { encoding: "utf8" });
  const own = (): number | undefined => processBytes(ask("--query-compute-apps=pid,used_memory"), process.pid);
  if (own() !== undefined) return { name: "nvidia-smi, this process", read: () => own() ?? 0 };
  return { name: "nvidia-smi, all processes", read: () => gpuBytes(ask("--query-gpu=memory.used")) };
}

/** Bytes of a process in nvidia-smi's lines of "pid, MiB"; undefined where it is not among them. */
export function processBytes(lines: string, pid: number): number | undefined {
  const found = lines
    .split("\n")
    .map((line) => line.split(",").map(Number))
    .filter(([id, mebibytes]) => id === pid && Number.isFinite(mebibytes));
  return found.length > 0 ? found.reduce((sum, [, mebibytes = 0]) => sum + mebibytes * MEBI, 0) : undefined;
}

/** Bytes in nvidia-smi's lines of MiB, a line for each GPU. */
export function gpuBytes(lines: string): number {
  const mebibytes = lines.trim().split("\n").map(Number);
  return mebibytes.reduce((sum, each) => sum + each * MEBI, 0);
}

/** The least of several readings after garbage collections, since JavaScript's own heap comes and goes. */
export async function settledBytes(meter: Meter): Promise<number> {
  const readings: number[] = [];
  for (let i = 0; i < 8; i++) {
    (globalThis as { gc?: () => void }).gc?.();
    await sleep(40);
    readings.push(meter.read());
  }
  return Math.min(...readings);
}
