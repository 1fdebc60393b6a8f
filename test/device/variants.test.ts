import { afterAll, beforeAll, expect, it } from "vitest";
import { Device, openDevice } from "../../src/gpu/device";
import type { VariantChoice } from "../../src/gpu/variants";
import type { Attributes, Op, OpCase } from "../../src/op/declaration";
import type { Variant } from "../../src/op/launch";
import { OPS } from "../../src/ops/index";
import { nodeGpu } from "../../src/node/gpu";
import { caseInputs, randomOutput, relativeError, runCase } from "../support/op-runs";

/** Names of the variants that ran. */
const seen = new Set<string>();

/** Sums of f32 in another order. */
const TOLERANCE = 1e-5;

/** Only the variants of one name, where a launch has it. */
const only =
  (name: string): VariantChoice =>
  ({ variants = [] }) => {
    const found = variants.find((variant) => variant.name === name);
    if (found) seen.add(name);
    return found;
  };

let gpu: GPU;
let plain: Device;
let subgroup: number | undefined;

beforeAll(async () => {
  gpu = await nodeGpu();
  const opened = await openDevice(gpu);
  subgroup = opened.info.subgroup;
  plain = new Device(opened.handle, opened.info, { variants: () => undefined });
});
afterAll(() => {
  expect(plain.pool.ledger.liveBytes, "bytes left in the ledger").toBe(0);
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

/** The variants that this adapter can run, found by running a case once. */
async function variantsHere(op: Op, test: OpCase<Attributes>): Promise<Variant[]> {
  const found = new Map<string, Variant>();
  const watch: VariantChoice = ({ variants = [] }) => {
    for (const variant of variants) if (variant.subgroup === subgroup) found.set(variant.name, variant);
    return undefined;
  };
  const watching = new Device(plain.handle, plain.info, { variants: watch });
  await everything(watching, op, test);
  return [...found.values()];
}

const cases = OPS.flatMap((op) =>
  op.cases.filter(({ bench }) => !bench).map((test) => [`${op.name}: ${test.name}`, op, test] as const),
);

it.each(cases)("%s: every variant gives the same", async (_name, op, test) => {
  const variants = await variantsHere(op, test);
  if (variants.length === 0) return;
  const expected = await everything(plain, op, test);
  for (const { name, rounds = false } of variants) {
    const given = await everything(new Device(plain.handle, plain.info, { variants: only(name) }), op, test);
    expect(Object.keys(given), name).toEqual(Object.keys(expected));
    for (const [what, values] of Object.entries(given)) {
      const wanted = expected[what] ?? [];
      if (rounds) expect(relativeError(values, wanted), `${what}, ${name}`).toBeLessThan(TOLERANCE);
      else expect(values, `bits of ${what}, ${name}`).toEqual(wanted);
    }
  }
});

it("has variants for this adapter", () => {
  expect(subgroup, "size of subgroups").toBeGreaterThan(1);
  expect(seen.size, "variants that ran").toBeGreaterThan(0);
});
