import { writeFile } from "node:fs/promises";
import { lora } from "../src/adapter/lora";
import { provenance } from "../scripts/provenance.mjs";
import { dispatches } from "./support/dispatches";
import { readConfig } from "./support/model";

const STEPS = [
  { model: "bert-base", batch: 32, length: 128, weights: "f32" },
  { model: "llama-2-7b", batch: 1, length: 512, weights: "nf4" },
] as const;

/** Counts the dispatches of LoRA steps on all projections of the layers, from configurations alone. */
async function main(): Promise<void> {
  const results = [];
  for (const { model, ...step } of STEPS) {
    const config = await readConfig(`bench/configs/${model}.json`);
    const counted = dispatches({ ...step, config, adapter: lora({ rank: 4, targets: "all-linear" }) });
    results.push({ model, ...step, ...counted });
    console.log(`${model}: ${counted.total} dispatches a step, for ${counted.tensors} tensors that learn`);
    console.table(counted.phases);
    console.table(counted.entries);
  }
  const origin = provenance({ device: "none: computed", vendor: "", description: "none" });
  await writeFile("bench/results/dispatches.json", `${JSON.stringify({ ...origin, results }, null, 1)}\n`);
}

await main();
