import { checkOps } from "../src/cli/doctor/cases/check";
import type { CheckResult } from "../src/cli/doctor/cases/check";
import { faultText } from "../src/cli/doctor/check";
import type { Engine } from "../src/engine";
import { OPS } from "../src/ops/index";
import { hasTimeFor } from "./support/deadline";
import { main } from "./support/main";
import { writeResults } from "./support/results";

/** Compares every op, forward and backward, by every kernel variant that the adapter can run, with float64. */
export async function variants(engine: Engine): Promise<void> {
  const results: (CheckResult & { readonly op: string })[] = [];
  for (const op of OPS) {
    if (!hasTimeFor(op.name)) continue;
    const result = await checkOps(engine.device, [op]);
    results.push({ op: op.name, ...result });
    console.log(`${op.name}: ${result.entries.length} entries, ${result.variants.length} variants`);
    for (const fault of result.wrong) console.log(faultText(fault));
  }
  await writeResults(engine, "variants", results);
  if (results.some(({ wrong }) => wrong.length > 0)) process.exitCode = 1;
}

await main("variants", variants);
