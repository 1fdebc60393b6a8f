import { Random } from "../../src/base/random";
import { mutated } from "./mutate";
import { seedsOf } from "./reader";
import type { Reader } from "./reader";
import { IMAGE_READERS } from "./readers-image";
import { RUN_READERS } from "./readers-run";
import { TEXT_READERS } from "./readers-text";
import { WEIGHT_READERS } from "./readers-weights";
import { trial } from "./trial";
import type { Trial } from "./trial";

/** All readers of files that may come from elsewhere. A new reader needs an entry here and a folder of seeds. */
export const READERS: readonly Reader[] = [...WEIGHT_READERS, ...RUN_READERS, ...TEXT_READERS, ...IMAGE_READERS];

/** The seed of all mutations in the committed corpus. */
export const SEED = 1;
/** Number of mutations per reader in the committed corpus. */
export const MUTATED = 2000;
/** Larger seeds are read but not mutated, since their mutations would take most of the time. */
const MAX_BYTES = 9000;

export interface Input {
  /** The seed's name, followed by the index of the mutation if the input is one. */
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** Yields a reader's seeds, then `count` mutations, which depend only on the seeds' bytes, `seed` and their index. */
export function* inputsOf(reader: Reader, count = MUTATED, seed = SEED): Generator<Input, void, undefined> {
  const seeds = seedsOf(reader.seeds);
  for (const [name, bytes] of seeds) yield { name, bytes };
  const small = [...seeds].filter(([, bytes]) => bytes.length <= MAX_BYTES);
  const pool = small.map(([, bytes]) => bytes);
  for (let i = 0; i < count; i++) {
    const pick = i % pool.length;
    const bytes = mutated(pool, pick, reader, new Random(seed, i));
    yield { name: `${small[pick]![0]} ~${i}`, bytes };
  }
}

/** Reads one input. @throws Error that names the input if a check of `trial` fails. */
export async function readInput(reader: Reader, { name, bytes }: Input): Promise<Trial> {
  try {
    return await trial({ ...reader.otherFiles, [reader.file]: bytes }, reader, (directory) => reader.read(directory));
  } catch (cause) {
    throw new Error(`${reader.name}, input ${name}: ${cause instanceof Error ? cause.message : String(cause)}`, {
      cause,
    });
  }
}
