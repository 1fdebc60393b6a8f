import { mkdir, readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { provenance } from "../scripts/provenance.mjs";
import type { Reader } from "../test/hostile/reader";
import { Coverage } from "./fuzz/coverage";

// Fuzzes a reader of files, guided by coverage: inputs that reach new blocks, or reach a block more often than any input
// before, are kept and mutated further. Saves the inputs of findings and then exits with 1. Writes bench/results/fuzz.json.
//
//   npm run fuzz -- READER [SECONDS] [SEED]
const RESULTS = "bench/results/fuzz.json";
const FINDINGS = "node_modules/.cache/safetape/findings";
/** Larger inputs are skipped, since every mutation of them would be slow. */
const MAX_BYTES = 16_384;
const MAX_FINDINGS = 20;

const coverage = new Coverage(fileURLToPath(import.meta.url));
// Imported after `Coverage` was created, so that the blocks of these modules are counted.
const { Random } = await import("../src/base/random");
const { READERS, readInput } = await import("../test/hostile/corpus");
const { mutated } = await import("../test/hostile/mutate");
const { seedsOf } = await import("../test/hostile/reader");
const { startWatchdog } = await import("../test/hostile/watchdog");

const [name = "safetensors", seconds = "600", seed = "1"] = process.argv.slice(2);
const reader = READERS.find((candidate) => candidate.name === name);
if (!reader) throw new Error(`There is no reader ${name}.\nReaders: ${READERS.map((known) => known.name).join(", ")}.`);
process.exitCode = await fuzz(reader, Number(seconds), Number(seed));

/** Fuzzes for a number of seconds. Returns the exit status. */
async function fuzz(target: Reader, limitSeconds: number, firstSeed: number): Promise<number> {
  const watchdog = startWatchdog([target.name]);
  const pool: Uint8Array[] = [];
  let [inputs, findings] = [0, 0];
  /** Reads an input. Resolves with whether it covered something new. */
  const readsNew = async (bytes: Uint8Array, index: number): Promise<boolean> => {
    watchdog.begin(0, index);
    inputs++;
    if (inputs === 1) coverage.skip();
    await readInput(target, { name: String(index), bytes });
    return coverage.countNew() > 0;
  };
  for (const bytes of seedsOf(target.seeds).values()) {
    if (bytes.length > MAX_BYTES) continue;
    await readsNew(bytes, -2);
    pool.push(bytes);
  }
  const [seeds, start, random] = [pool.length, Date.now(), new Random(firstSeed)];
  for (let i = 0, lastReport = start; Date.now() - start < limitSeconds * 1000; i++) {
    // Half of the inputs mutate those kept last, which are the likeliest to lead to new blocks.
    const recent = Math.max(0, pool.length - 32);
    const pick = random.below(2) === 0 ? recent + random.below(pool.length - recent) : random.below(pool.length);
    const bytes = mutated(pool, pick, target, random);
    if (bytes.length > MAX_BYTES) continue;
    try {
      if (await readsNew(bytes, i)) pool.push(bytes);
    } catch (finding) {
      await save(bytes, finding);
      if (++findings === MAX_FINDINGS) break;
    }
    if (Date.now() - lastReport < 30_000) continue;
    lastReport = Date.now();
    console.log(
      `${((lastReport - start) / 1000).toFixed(0)} s: ${inputs} inputs, ${pool.length} kept, ${coverage.features} features`,
    );
  }
  await watchdog.stop();
  const { functions, characters, covered } = coverage.report();
  const result = {
    ...provenance(),
    seed: firstSeed,
    seconds: limitSeconds,
    inputs,
    findings,
    seeds,
    kept: pool.length - seeds,
    features: coverage.features,
    functions,
    coveredOfTheirSource: Number((covered / characters).toFixed(3)),
  };
  console.log(`${target.name}: ${JSON.stringify(result)}`);
  // Written below by earlier calls, with a key for each reader.
  const earlier = JSON.parse(await readFile(RESULTS, "utf8").catch(() => "{}")) as Record<string, unknown>;
  await writeFile(RESULTS, `${JSON.stringify({ ...earlier, [target.name]: result }, null, 1)}\n`);
  return findings === 0 ? 0 : 1;
}

/** Saves an input that caused a finding, and prints the finding. */
async function save(bytes: Uint8Array, finding: unknown): Promise<void> {
  await mkdir(FINDINGS, { recursive: true });
  const file = `${FINDINGS}/${name.replace(/\W/g, "-")}-${Date.now()}`;
  await writeFile(file, bytes);
  console.error(finding);
  console.error(`FINDING: the input is in ${file}; add it to the seeds once the reader is fixed.`);
}
