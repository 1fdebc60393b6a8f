import { afterAll, beforeAll, expect, it } from "vitest";
import { Device, openDevice } from "../../src/gpu/device";
import type { VariantChoice } from "../../src/gpu/variants";
import type { Attributes, Op, OpCase } from "../../src/op/declaration";
import type { Launch, Variant } from "../../src/op/launch";
import { OPS } from "../../src/ops/index";
import { nodeGpu } from "../../src/node/gpu";
import { caseInputs, randomOutput, relativeError, runCase } from "../support/op-runs";

/** What ran: variants' names, entries and formats of each kernel. */
const seen = new Set<string>();

/** Sums of f32 in another order. */
const TOLERANCE = 1e-5;

let plain: Device;
let watching: Device;
let subgroup: number | undefined;
/** What the running case is to show, by variants' names: the entries in which they run. */
const found = new Map<string, { readonly rounds: boolean; readonly entries: Set<string> }>();
/** One for each variant's name, so that no pipeline is made twice. */
const devices = new Map<string, Device>();

const choosing = (variants: VariantChoice): Device => new Device(plain.handle, plain.info, { variants });
const fits = (variant: Variant): boolean => variant.subgroup === undefined || variant.subgroup === subgroup;

/**
 * The kernels that software adapters run by default are compared in every case. What other kernels and other tiles may do
 * wrong lies in a tile, an entry or a format, so each of them runs once, not each with each: a pipeline takes up to seconds.
 */
function isNew(launch: Launch, variant: Variant): boolean {
  const usual = launch.variants?.find((one) => one.subgroup === subgroup);
  return variant === usual || traitsOf(launch, variant).some((trait) => !seen.has(trait));
}

function traitsOf({ entry }: Launch, { kernel, name, constants }: Variant): string[] {
  const { FORMAT = 0 } = constants;
  return [`${kernel.name}: ${name}`, `${kernel.name}.${entry}`, `${kernel.name} of format ${FORMAT}`];
}

const watch: VariantChoice = (launch) => {
  for (const variant of (launch.variants ?? []).filter(fits)) {
    if (!isNew(launch, variant)) continue;
    traitsOf(launch, variant).forEach((trait) => seen.add(trait));
    const { name, rounds = false } = variant;
    const entries = found.get(name)?.entries ?? new Set();
    found.set(name, { rounds, entries: entries.add(launch.entry) });
  }
  return undefined;
};

/** Only the variants of one name, in the entries in which they are to run. */
const only =
  (name: string): VariantChoice =>
  ({ entry, variants = [] }) =>
    found.get(name)?.entries.has(entry) ? variants.find((one) => one.name === name) : undefined;

beforeAll(async () => {
  const { handle, info } = await openDevice(await nodeGpu());
  subgroup = info.subgroup;
  plain = new Device(handle, info, { variants: () => undefined });
  watching = choosing(watch);
});
afterAll(() => {
  for (const { pool } of [plain, watching, ...devices.values()]) {
    expect(pool.ledger.liveBytes, "bytes left in the ledger").toBe(0);
  }
  plain.close();
});

/** Everything that a case gives: outputs, every gradient, mutated inputs. */
async function everything(device: Device, op: Op, test: OpCase<Attributes>): Promise<Record<string, number[]>> {
  const inputs = caseInputs(op, test);
  const trainable = Object.keys(test.inputs).filter((slot) => op.inputs[slot]?.gradient && !test.inputs[slot]?.format);
  const options = op.gradients.length > 0 ? { trainable, dy: randomOutput(op, test, inputs) } : {};
  const { outputs, gradients, mutated } = await runCase(device, op, test, inputs, options);
  return Object.fromEntries(
    Object.entries({ outputs, gradients, mutated }).flatMap(([kind, values]) =>
      [...values].map(([slot, data]) => [`${kind} ${slot}`, [...data]]),
    ),
  );
}

const cases = OPS.flatMap((op) =>
  op.cases.filter(({ bench }) => !bench).map((test) => [`${op.name}: ${test.name}`, op, test] as const),
);

it.each(cases)("%s: every variant gives the same", async (_name, op, test) => {
  found.clear();
  const expected = await everything(watching, op, test);
  for (const [name, { rounds }] of found) {
    const device = devices.get(name) ?? choosing(only(name));
    devices.set(name, device);
    const given = await everything(device, op, test);
    expect(Object.keys(given), name).toEqual(Object.keys(expected));
    for (const [what, values] of Object.entries(given)) {
      const wanted = expected[what] ?? [];
      if (rounds) expect(relativeError(values, wanted), `${what}, ${name}`).toBeLessThan(TOLERANCE);
      else expect(values, `bits of ${what}, ${name}`).toEqual(wanted);
    }
  }
});

it("has variants for this adapter, of every kernel that has any", () => {
  expect(subgroup, "size of subgroups").toBeGreaterThan(1);
  const kernels = new Set([...seen].map((trait) => /^\w+/.exec(trait)?.[0]));
  const products = ["product", "product_narrow_subgroup", "product_shared", "product_split", "product_subgroup"];
  expect([...kernels].sort()).toEqual(["attention", "attention_subgroup", ...products]);
});
