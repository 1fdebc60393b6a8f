import { withoutComments } from "../../gpu/compose";
import { withConstants } from "../../gpu/wgsl";
import { accumulateLaunches } from "../../op/accumulate";
import type { Kernel } from "../../op/kernel";
import { DEFAULT_LIMITS } from "../../op/limits";
import { packLaunches } from "../../op/pack";
import { OPS } from "../../testing/ops";
import { planCase } from "../../testing/case-plan";
import { DOCTOR } from "../flags";
import { nearestNames } from "../../base/nearest";
import { needed, readOptions, UsageError } from "../options";
import type { Print, RawOptions } from "../options";

/** `safetape doctor --kernel NAME [--entry E] [NAME=VALUE ...]`: prints the text that is compiled, with parts in place of imports. */
export function kernelCommand(constants: readonly string[], raw: RawOptions, print: Print): void {
  const { kernel: name, entry } = readOptions(DOCTOR, raw);
  const kernel = kernelNamed(needed(name, "--kernel"));
  const text = withConstants(kernel, readConstants(kernel, constants));
  print((entry === undefined ? text : withEntry(kernel, text, entry)).trimEnd());
}

/** Every kernel, by name: those that the cases of ops launch, their variants, and what plans launch themselves. */
export function allKernels(): ReadonlyMap<string, Kernel> {
  const cases = OPS.flatMap((op) => op.cases.map((test) => planCase(op, test)));
  const launches = [
    ...cases.flatMap((planned) => planned.launches.map(({ launch }) => launch)),
    ...accumulateLaunches("source", "target", 1, false, DEFAULT_LIMITS),
    ...packLaunches("pack", 1, "f16", DEFAULT_LIMITS),
  ];
  const kernels = launches.flatMap(({ kernel, variants = [], absorbs = [] }) =>
    [{ kernel }, ...variants, ...absorbs.flatMap((each) => each.variants ?? [])].map((run) => run.kernel),
  );
  return new Map(kernels.map((kernel) => [kernel.name, kernel]));
}

function kernelNamed(name: string): Kernel {
  const kernels = allKernels();
  return kernels.get(name) ?? unknown("kernel", name, [...kernels.keys()]);
}

/** @throws UsageError for a name that is none of `names`, with the nearest. */
function unknown(kind: string, name: string, names: readonly string[]): never {
  const nearest = nearestNames(name, names);
  throw new UsageError(
    `There is no ${kind} ${name.slice(0, 200)}.`,
    nearest.length > 0 ? `The nearest are ${nearest.join(", ")}.` : `It has none.`,
  );
}

/** The values of NAME=VALUE. @throws UsageError for a constant that the kernel does not have. */
function readConstants(kernel: Kernel, settings: readonly string[]): Record<string, number> {
  const declared = [...withoutComments(withConstants(kernel, {})).matchAll(/^const (\w+): u32 = \d+u;/gm)];
  const names = declared.map(([, name = ""]) => name);
  return Object.fromEntries(
    settings.map((setting) => {
      const [, name, value] = /^(\w+)=(\d+)$/.exec(setting) ?? [];
      if (name === undefined)
        throw new UsageError(`${setting} sets no constant.`, "Write NAME=VALUE with a whole number.");
      return names.includes(name) ? [name, Number(value)] : unknown(`constant of ${kernel.name}`, name, names);
    }),
  );
}

/** A kernel's text without its other entries. @throws UsageError for an entry that it does not have. */
export function withEntry(kernel: Kernel, text: string, entry: string): string {
  // An entry ends with the first brace at the beginning of a line, as all functions of kernels do.
  const entries = [...withoutComments(text).matchAll(/^@compute[^{]*?fn (\w+)\([^]*?^\}\n?/gm)];
  const names = entries.map(([, name = ""]) => name);
  if (!names.includes(entry)) unknown(`entry of ${kernel.name}`, entry, names);
  return entries.reduceRight((rest, { index, 0: { length }, 1: name }) => {
    if (name === entry) return rest;
    const before = rest.slice(0, index).replace(/(?:\n\/\/.*)+\n$/, "\n");
    return before.trimEnd() + "\n" + rest.slice(index + length);
  }, text);
}
