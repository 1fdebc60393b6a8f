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

/** Every reader of files that come from elsewhere. One more is one more entry here, and its folder of seeds. */
export const READERS: readonly Reader[] = [...WEIGHT_READERS, ...RUN_READERS, ...TEXT_READERS, ...IMAGE_READERS];

/** The first random number of every mutation. */
export const SEED = 1;
/** Mutated inputs of each reader that the committed outcomes cover. */
export const MUTATED = 2000;
/** Larger seeds are read as they are, but not mutated: they would take most of the time. */
const MOST_BYTES = 9000;

export interface Input {
  /** The seed's name, or its name with the number of the mutation. */
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** A reader's seeds, then `count` mutations: a function of the seeds' bytes and these numbers alone. */
export function* inputsOf(reader: Reader, count = MUTATED, seed = SEED): Generator<Input, void, undefined> {
  const seeds = seedsOf(reader.seeds);
  for (const [name, bytes] of seeds) yield { name, bytes };
  const small = [...seeds].filter(([, bytes]) => bytes.length <= MOST_BYTES);
  const pool = small.map(([, bytes]) => bytes);
  for (let i = 0; i < count; i++) {
    const pick = i % pool.length;
    const bytes = mutated(pool, pick, reader, new Random(seed, i));
    yield { name: `${small[pick]![0]} ~${i}`, bytes };
  }
}

/** Reads one input. Throws Error, naming it, where something does not hold that must. */
export async function readInput(reader: Reader, { name, bytes }: Input): Promise<Trial> {
  try {
    return await trial({ ...reader.beside, [reader.file]: bytes }, reader, (directory) => reader.read(directory));
  } catch (cause) {
    throw new Error(`${reader.name}, input ${name}: ${cause instanceof Error ? cause.message : String(cause)}`, {
      cause,
    });
  }
}
