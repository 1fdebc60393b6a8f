import { mkdir, readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { provenance } from "../scripts/provenance.mjs";
import type { Reader } from "../test/hostile/reader";
import { Coverage } from "./fuzz/coverage";

/**
 * npm run fuzz -- READER [SECONDS] [SEED]
 *
 * Mutates inputs of a reader and keeps those that reach blocks, or counts of them, that none before did, to be mutated
 * further. Findings are saved, and make it end with 1. Writes bench/results/fuzz.json.
 */
const RESULTS = "bench/results/fuzz.json";
const FINDINGS = "node_modules/.cache/safetape/findings";
/** Larger inputs are not kept: they slow all that is made from them. */
const MOST_BYTES = 16_384;
const MOST_FINDINGS = 20;

const coverage = new Coverage(fileURLToPath(import.meta.url));
// Loaded only now, for its blocks to be counted.
const { Random } = await import("../src/base/random");
const { READERS, readInput } = await import("../test/hostile/corpus");
const { mutated } = await import("../test/hostile/mutate");
const { seedsOf } = await import("../test/hostile/reader");
const { watchdog } = await import("../test/hostile/watchdog");

const [name = "safetensors", seconds = "600", seed = "1"] = process.argv.slice(2);
const reader = READERS.find((one) => one.name === name);
if (!reader) throw new Error(`There is no reader ${name}.\nReaders: ${READERS.map((one) => one.name).join(", ")}.`);
process.exitCode = await fuzz(reader, Number(seconds), Number(seed));

async function fuzz(target: Reader, limit: number, first: number): Promise<number> {
  const dog = watchdog([target.name]);
  const pool: Uint8Array[] = [];
  let [tried, findings] = [0, 0];
  /** Whether the input did something new. */
  const runs = async (bytes: Uint8Array, index: number): Promise<boolean> => {
    dog.begin(0, index);
    tried++;
    if (tried === 1) coverage.skip();
    await readInput(target, { name: String(index), bytes });
    return coverage.news() > 0;
  };
  for (const bytes of seedsOf(target.seeds).values()) {
    if (bytes.length > MOST_BYTES) continue;
    await runs(bytes, -2);
    pool.push(bytes);
  }
  const [seeds, begin, random] = [pool.length, Date.now(), new Random(first)];
  for (let i = 0, told = begin; Date.now() - begin < limit * 1000; i++) {
    // Every other input comes from what was kept last, which is nearest to what is new.
    const recent = Math.max(0, pool.length - 32);
    const pick = random.below(2) === 0 ? recent + random.below(pool.length - recent) : random.below(pool.length);
    const bytes = mutated(pool, pick, target, random);
    if (bytes.length > MOST_BYTES) continue;
    try {
      if (await runs(bytes, i)) pool.push(bytes);
    } catch (finding) {
      await save(bytes, finding);
      if (++findings === MOST_FINDINGS) break;
    }
    if (Date.now() - told < 30_000) continue;
    told = Date.now();
    console.log(
      `${((told - begin) / 1000).toFixed(0)} s: ${tried} inputs, ${pool.length} kept, ${coverage.features} features`,
    );
  }
  await dog.stop();
  const { functions, characters, covered } = coverage.report();
  const result = {
    ...provenance(),
    seed: first,
    seconds: limit,
    inputs: tried,
    findings,
    seeds,
    kept: pool.length - seeds,
    features: coverage.features,
    functions,
    coveredOfTheirSource: Number((covered / characters).toFixed(3)),
  };
  console.log(`${target.name}: ${JSON.stringify(result)}`);
  const before = JSON.parse(await readFile(RESULTS, "utf8").catch(() => "{}")) as Record<string, unknown>;
  await writeFile(RESULTS, `${JSON.stringify({ ...before, [target.name]: result }, null, 1)}\n`);
  return findings === 0 ? 0 : 1;
}

/** Keeps an input that did what none may, and says so. */
async function save(bytes: Uint8Array, finding: unknown): Promise<void> {
  await mkdir(FINDINGS, { recursive: true });
  const file = `${FINDINGS}/${name.replace(/\W/g, "-")}-${Date.now()}`;
  await writeFile(file, bytes);
  console.error(finding);
  console.error(`FINDING: the input is in ${file}; put it among the seeds once it is mended.`);
}
