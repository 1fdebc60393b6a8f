import { mkdir, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Engine } from "../../src/engine";
import { leftOut } from "./deadline";
import { provenance } from "../../scripts/provenance.mjs";

/** A short name of the adapter for file names, such as "llvmpipe"; "gpu" if it is not a known one. */
export function adapterName({ info }: Pick<Engine, "info">): string {
  const text = `${info.description} ${info.device} ${info.architecture}`.toLowerCase();
  return /llvmpipe|swiftshader|nvidia|amd|intel|apple/.exec(text)?.[0] ?? "gpu";
}

/** Prints rows of figures as a table, then writes them with `writeResults`. */
export async function report(engine: Engine, name: string, rows: readonly Record<string, unknown>[]): Promise<void> {
  console.log(`\n${name} on ${engine.info.description || engine.info.device}`);
  console.table(rows);
  await writeResults(engine, name, rows);
}

/**
 * Writes `bench/results/NAME-ADAPTER.json` with the provenance of the figures. A bench that may be stopped calls it after every
 * measurement, so that the file has what was measured until then.
 * @param notReached the measurements that are still to come.
 */
export async function writeResults(
  engine: Pick<Engine, "info">,
  name: string,
  results: unknown,
  notReached: readonly string[] = [],
): Promise<void> {
  const folder = join(process.cwd(), "bench", "results");
  await mkdir(folder, { recursive: true });
  const file = join(folder, `${name}-${adapterName(engine)}.json`);
  const unmeasured = {
    ...(leftOut.length > 0 && { "left out for want of time": leftOut }),
    ...(notReached.length > 0 && { "not reached": notReached }),
  };
  // What a process that is stopped while it writes leaves behind is not this file.
  await writeFile(
    `${file}.part`,
    `${JSON.stringify({ ...provenance(engine.info), ...unmeasured, results }, null, 1)}\n`,
  );
  await rename(`${file}.part`, file);
}

/** Rounds to three significant digits. */
export const round = (value: number): number => Number(value.toPrecision(3));

/** The upper median. */
export const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;
