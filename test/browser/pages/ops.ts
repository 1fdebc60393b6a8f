// Runs the cases of ops on the browser's WebGPU. The published bundle does not contain the cases, so this imports the sources.
import { Device, openDevice } from "../../../src/gpu/device";
import type { VariantChoice } from "../../../src/gpu/variants";
import type { Variant } from "../../../src/op/launch";
import { OPS } from "../../../src/testing/ops";
import { CaseReference } from "../../../src/testing/case-reference";
import { runCase } from "../../../src/testing/run-case";

let opened: Promise<Device> | undefined;
/** Devices that force a variant, by its name. All are the same device of WebGPU. */
const forcing = new Map<string, Device>();
/** Names of variants that the launches since the last call of `variants` have, with the entries that each has in its kernel. */
const entriesByVariant = new Map<string, Set<string>>();
/** Entries of variants' kernels that `variants` has named. */
const coveredEntries = new Set<string>();

/** A device whose launches run the variant of this name where they have it, and the portable kernel elsewhere. */
function deviceForcing(device: Device, name: string): Device {
  const choose: VariantChoice = ({ entry, variants = [] }) => {
    for (const variant of variants.filter(needsNoFeature)) {
      const entries = entriesByVariant.get(variant.name) ?? new Set();
      entriesByVariant.set(variant.name, entries.add(`${variant.kernel.name}.${entry}`));
    }
    return variants.find((variant) => variant.name === name);
  };
  const created = forcing.get(name) ?? new Device(device.handle, device.info, { variants: choose });
  forcing.set(name, created);
  return created;
}

const needsNoFeature = ({ subgroup, needs = [] }: Variant): boolean => subgroup === undefined && needs.length === 0;

export interface CaseErrors {
  readonly op: string;
  readonly name: string;
  /** The case's own limit for forward errors, if it has one. */
  readonly tolerance: number | undefined;
  readonly forward: readonly (readonly [string, number])[];
  readonly gradients: readonly (readonly [string, number])[];
}

/**
 * Runs one case, forward and all gradients, in one plan.
 * @param variant the variant to run, or "portable"; undefined for what the adapter runs by default.
 */
async function run(opName: string, name: string, variant?: string): Promise<CaseErrors> {
  const usual = await (opened ??= openDevice(navigator.gpu));
  const device = variant === undefined ? usual : deviceForcing(usual, variant);
  const op = OPS.find((candidate) => candidate.name === opName);
  const test = op?.cases.find((candidate) => candidate.name === name);
  if (!op || !test) throw new Error(`The op ${opName} has no case ${name}.`);
  const reference = new CaseReference(op, test);
  const results = await runCase(device, op, test, reference.inputs, reference.differentiation);
  const forward = reference.forwardErrors(results);
  return { op: opName, name, tolerance: test.tolerance, forward, gradients: reference.gradientErrors(results) };
}

/**
 * Runs a case with the portable kernels and returns the names of its variants that need no feature of the adapter.
 * @param isNew whether to leave out those whose kernel was named before in all of their entries.
 */
async function variants(opName: string, name: string, isNew: boolean): Promise<string[]> {
  entriesByVariant.clear();
  await run(opName, name, "portable");
  return [...entriesByVariant].flatMap(([variant, entries]) => {
    const isCovered = [...entries].every((entry) => coveredEntries.has(entry));
    entries.forEach((entry) => coveredEntries.add(entry));
    return isNew && isCovered ? [] : [variant];
  });
}

const liveBytes = async (): Promise<number> => (await opened)?.pool.ledger.liveBytes ?? NaN;

const page = { run, variants, liveBytes };
export type OpsPage = typeof page;
Object.assign(globalThis, { page });
