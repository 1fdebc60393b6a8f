import { afterAll, beforeAll, expect, it } from "vitest";
import { Device, openDevice } from "../../src/gpu/device";
import { fittingVariant } from "../../src/gpu/variants";
import type { VariantChoice } from "../../src/gpu/variants";
import type { Attributes, Op, OpCase } from "../../src/op/declaration";
import type { Launch } from "../../src/op/launch";
import { OPS } from "../../src/ops/index";
import { nodeGpu } from "../../src/node/gpu";
import { caseInputs, randomOutput, runCase } from "../support/op-runs";
import type { CaseRun } from "../support/op-runs";

/** Names of the variants that ran, as a choice saw them. */
const seen = new Set<string>();

/** Only the variants of one name, where a launch has it. */
const only =
  (name: string): VariantChoice =>
  ({ variants = [] }: Launch) => {
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
  plain = new Device(opened.handle, opened.info, {}, () => undefined);
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
  const run: CaseRun = await runCase(device, op, test, inputs, options);
  const named = { outputs: run.outputs, gradients: run.gradients, mutated: run.mutated };
  return Object.fromEntries(
    Object.entries(named).flatMap(([kind, values]) =>
      [...values].map(([slot, data]) => [`${kind} ${slot}`, [...data]]),
    ),
  );
}

/** The variants that this adapter can run, found by running every case once. */
async function variantsHere(op: Op, test: OpCase<Attributes>): Promise<string[]> {
  const names = new Set<string>();
  const watching = new Device(plain.handle, plain.info, {}, ({ variants = [] }) => {
    for (const variant of variants)
      if (fittingVariant(subgroup)({ variants: [variant] } as never)) names.add(variant.name);
    return undefined;
  });
  await everything(watching, op, test);
  return [...names];
}

const cases = OPS.flatMap((op) =>
  op.cases.filter(({ bench }) => !bench).map((test) => [`${op.name}: ${test.name}`, op, test] as const),
);

it.each(cases)("%s: every variant gives the same bits", async (_name, op, test) => {
  const names = await variantsHere(op, test);
  if (names.length === 0) return;
  const expected = await everything(plain, op, test);
  for (const name of names) {
    const pinned = new Device(plain.handle, plain.info, {}, only(name));
    expect(await everything(pinned, op, test), name).toEqual(expected);
  }
});

it("has variants for this adapter", () => {
  expect(subgroup, "size of subgroups").toBeGreaterThan(1);
  expect(seen.size, "variants that ran").toBeGreaterThan(0);
});
