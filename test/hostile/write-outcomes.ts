import { writeFile } from "node:fs/promises";
import { MUTATED, READERS, SEED } from "./corpus";
import { watchedOutcomes } from "./outcomes";
import { startWatchdog } from "./watchdog";

// Writes the outcomes of the corpus. The file is committed, so that a change of a reader's behaviour shows up as a difference.
const watchdog = startWatchdog(READERS.map(({ name }) => name));
const readers: Record<string, unknown> = {};
for (const [i, reader] of READERS.entries()) {
  const { costs, ...outcomes } = await watchedOutcomes(watchdog, i, reader, { count: MUTATED, seed: SEED });
  readers[reader.name] = outcomes;
  const { inputs, counts } = outcomes;
  process.stdout.write(`${reader.name}: ${inputs} inputs, ${JSON.stringify(counts)}, ${JSON.stringify(costs)}\n`);
}
await watchdog.stop();
const contents = { seed: SEED, mutated: MUTATED, readers };
await writeFile("test/hostile/outcomes.json", `${JSON.stringify(contents, null, 1)}\n`);
