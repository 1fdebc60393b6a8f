import { checkOps } from "../src/testing/check-variants";
import type { CheckResult } from "../src/testing/check-variants";
import { faultText } from "../src/cli/doctor/check";
import type { Engine } from "../src/engine";
import { OPS } from "../src/testing/ops";
import { hasTimeFor } from "./support/deadline";
import { main } from "./support/main";
import { writeResults } from "./support/results";

/** Milliseconds after which a case begins no further variant, so that no slow one takes the time of all others. */
const CASE_MILLISECONDS = 4000;

/** Compares every op, forward and backward, by every kernel variant that the adapter can run, with float64. */
export async function variants(engine: Engine): Promise<void> {
  const results: (CheckResult & { readonly op: string })[] = [];
  for (const [i, op] of OPS.entries()) {
    if (!hasTimeFor(op.name)) continue;
    const later = OPS.slice(i + 1).map(({ name }) => name);
    const result = await checkOps(engine.device, [op], {
      caseMilliseconds: CASE_MILLISECONDS,
      beforeCase: (soFar, cases) =>
        writeResults(engine, "variants", [...results, { op: op.name, ...soFar }], [...cases, ...later]),
    });
    results.push({ op: op.name, ...result });
    console.log(`${op.name}: ${result.entries.length} entries, ${result.variants.length} variants`);
    for (const fault of result.wrong) console.log(faultText(fault));
    for (const variant of result.leftOut) console.log(`left out, since its case took long: ${variant}`);
  }
  await writeResults(engine, "variants", results);
  if (results.some(({ wrong }) => wrong.length > 0)) process.exitCode = 1;
}

await main("variants", variants);
