import { writeFile } from "node:fs/promises";
import { MUTATED, READERS, SEED } from "./corpus";
import { watchedOutcomes } from "./outcomes";
import { watchdog } from "./watchdog";

// Writes how the corpus ends, to be committed: a change of a reader's behaviour then shows as a difference.
const dog = watchdog(READERS.map(({ name }) => name));
const readers: Record<string, unknown> = {};
for (const [i, reader] of READERS.entries()) {
  const { costs, ...outcomes } = await watchedOutcomes(dog, i, reader, { count: MUTATED, seed: SEED });
  readers[reader.name] = outcomes;
  const told = `${outcomes.inputs} inputs, ${JSON.stringify(outcomes.counts)}, ${JSON.stringify(costs)}`;
  process.stdout.write(`${reader.name}: ${told}\n`);
}
await dog.stop();
const packed = { seed: SEED, mutated: MUTATED, readers };
await writeFile("test/hostile/outcomes.json", `${JSON.stringify(packed, null, 1)}\n`);
