import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { Engine } from "../../src/engine";
import { adapterName } from "./results";

/** A measurement of this process's memory that does not depend on the ledger. */
export interface Meter {
  readonly name: string;
  /** Bytes in use now. */
  read(): number;
}

/**
 * Environment variables that make glibc's malloc return freed blocks to the system (mallopt(3)). A software driver allocates
 * device memory with malloc; with these settings, resident memory is what the engine and the driver hold.
 */
export const MALLOC = { MALLOC_MMAP_THRESHOLD_: String(2 ** 18), MALLOC_TRIM_THRESHOLD_: "0", MALLOC_ARENA_MAX: "1" };

const MEBIBYTE = 1024 ** 2;

/** Resident bytes of this process, which include the device memory of a software adapter. */
export function residentBytes(): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync("/proc/self/status", "utf8"))?.[1]) * 1024;
}

/** The meter that includes the buffers of an engine's adapter. */
export function meterOf(engine: Engine): Meter {
  return adapterName(engine) === "nvidia" ? nvidiaMeter() : { name: "resident bytes", read: residentBytes };
}

/** Memory that nvidia-smi reports for this process; where it cannot see processes (in a container), for all GPUs. */
function nvidiaMeter(): Meter {
  const nvidiaSmi = (query: string): string =>
    execFileSync("nvidia-smi", [query, "--format=csv,noheader,nounits"], { encoding: "utf8" });
  const ownBytes = (): number | undefined =>
    processBytes(nvidiaSmi("--query-compute-apps=pid,used_memory"), process.pid);
  if (ownBytes() !== undefined) return { name: "nvidia-smi, this process", read: () => ownBytes() ?? 0 };
  return { name: "nvidia-smi, all processes", read: () => gpuBytes(nvidiaSmi("--query-gpu=memory.used")) };
}

/** Bytes of a process in nvidia-smi's lines of "pid, MiB"; undefined if the process is not listed. */
export function processBytes(lines: string, pid: number): number | undefined {
  const matches = lines
    .split("\n")
    .map((line) => line.split(",").map(Number))
    .filter(([id, mebibytes]) => id === pid && Number.isFinite(mebibytes));
  return matches.length > 0 ? matches.reduce((sum, [, mebibytes = 0]) => sum + mebibytes * MEBIBYTE, 0) : undefined;
}

/** Sum of nvidia-smi's lines of MiB, one line for each GPU, in bytes. */
export function gpuBytes(lines: string): number {
  const mebibytes = lines.trim().split("\n").map(Number);
  return mebibytes.reduce((sum, value) => sum + value * MEBIBYTE, 0);
}

/** The lowest of several readings, each after a garbage collection, since the JavaScript heap grows and shrinks by itself. */
export async function settledBytes(meter: Meter): Promise<number> {
  const readings: number[] = [];
  for (let i = 0; i < 8; i++) {
    // `gc` exists under node --expose-gc.
    (globalThis as { gc?: () => void }).gc?.();
    await sleep(40);
    readings.push(meter.read());
  }
  return Math.min(...readings);
}
