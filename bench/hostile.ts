import { writeFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { provenance } from "../scripts/provenance.mjs";
import { READERS, SEED } from "../test/hostile/corpus";
import { watchedOutcomes } from "../test/hostile/outcomes";
import { startWatchdog } from "../test/hostile/watchdog";

// Reads hostile files with every reader and writes bench/results/hostile.json.
//
//   npm run hostile [-- --inputs N --seed S]     N mutations for each reader
const { values } = parseArgs({
  options: { inputs: { type: "string", default: "20000" }, seed: { type: "string", default: String(SEED) } },
});
const run = { count: Number(values.inputs), seed: Number(values.seed) };

const watchdog = startWatchdog(READERS.map(({ name }) => name));
const rows: ({ inputs: number } & Record<string, unknown>)[] = [];
for (const [i, reader] of READERS.entries()) {
  const { inputs, counts, costs } = await watchedOutcomes(watchdog, i, reader, run);
  const { result = 0 } = counts;
  rows.push({ reader: reader.name, inputs, read: result, refused: inputs - result, ...costs });
}
await watchdog.stop();
console.table(rows);
const total = rows.reduce((sum, row) => sum + row.inputs, 0);
const results = { seed: run.seed, inputs: total, readers: rows };
console.log(`${total} inputs: no crash, no hang, nothing outside the directory, no prototype changed`);
await writeFile("bench/results/hostile.json", `${JSON.stringify({ ...provenance(), results }, null, 1)}\n`);
