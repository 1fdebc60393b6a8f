import { KernelError } from "../../base/errors";
import { createEngine } from "../../node/index";
import { OPS } from "../../testing/ops";
import { checkOps } from "../../testing/check-variants";
import type { CheckResult, WrongResult } from "../../testing/check-variants";
import { shippedOp } from "../bench/subject";
import { DOCTOR } from "../flags";
import { readOptions } from "../options";
import type { Print, RawOptions } from "../options";
import { progressOn } from "../view/progress";
import { Screen } from "../view/screen";

/**
 * `safetape doctor --check`: compares every op, forward and backward, with float64: on a GPU by every kernel that it can run, on a
 * software adapter, which takes seconds to compile a kernel that is written for GPUs and would never run it, by those that it runs by
 * default, and in cases that together run every entry with every constant but sizes of heads. Entries that do the work of neighbouring
 * ops as well run in no case of one op, and are not compared here.
 * @throws KernelError if a result is wrong.
 */
export async function checkCommand(raw: RawOptions, print: Print): Promise<void> {
  const { ops: names, json } = readOptions(DOCTOR, raw);
  const ops = names?.map(shippedOp) ?? OPS;
  const screen = new Screen(false);
  const start = performance.now();
  using engine = await createEngine({ variants: "portable" });
  const { isSoftware } = engine.info;
  using beside = isSoftware ? await createEngine({ variants: "portable" }) : undefined;
  let result: CheckResult;
  try {
    result = await progressOn(screen)("checking kernels", (onProgress) =>
      checkOps(beside ? [engine.device, beside.device] : engine.device, ops, { onProgress, usualOnly: isSoftware }),
    );
  } finally {
    screen.end();
  }
  const seconds = (performance.now() - start) / 1000;
  const { device, vendor, description } = engine.info;
  if (json) print(JSON.stringify({ adapter: engine.info, seconds, ...result }));
  else {
    const { cases, entries, variants, wrong, similar } = result;
    print(`adapter   ${device || vendor}`);
    print(`driver    ${description}`);
    print(
      `checked   ${entries.length} entries of kernels and ${variants.length} variants in ${cases} cases, ${seconds.toFixed(0)} s`,
    );
    if (similar.length > 0)
      print(
        `left out  ${similar.length} cases that compile the same kernels for other sizes of heads alone (--json names them)`,
      );
    for (const fault of wrong) print(faultText(fault));
  }
  refuseWrong(result);
}

/** @throws KernelError if a result is wrong. */
export function refuseWrong({ wrong }: CheckResult): void {
  if (wrong.length === 0) return;
  const entries = new Set(wrong.flatMap((fault) => fault.entries));
  throw new KernelError(
    `${wrong.length} results are wrong on this adapter, by ${[...entries].join(", ")}.`,
    'Update the driver, or use another one; createEngine({ variants: "portable" }) leaves variants out. Please report it.',
  );
}

/** A wrong result as text. */
export function faultText({ op, case: name, variant, entries, result, error, allowed, refusal }: WrongResult): string {
  const what = refusal ?? `${result} has the error ${error?.toExponential(1)}, allowed ${allowed?.toExponential(1)}`;
  return `wrong     ${entries.join(", ")} (${variant}), ${op}, "${name}": ${what}`;
}
