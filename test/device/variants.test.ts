import { afterAll, expect, it } from "vitest";
import { Device, openDevice } from "../../src/gpu/device";
import { canRun } from "../../src/gpu/variants";
import type { VariantChoice } from "../../src/gpu/variants";
import type { Attributes, Op, OpCase } from "../../src/op/declaration";
import type { Launch, Variant } from "../../src/op/launch";
import { OPS } from "../../src/ops/index";
import { nodeGpu } from "../../src/node/gpu";
import { differentiable } from "../support/op-checks";
import { caseInputs, randomOutputGradient, relativeError, runCase } from "../support/op-runs";

/** Tolerance for sums of f32 in another order. */
const TOLERANCE = 1e-5;

const { handle, info } = await openDevice(await nodeGpu());
const { subgroup } = info;
const deviceWith = (variants: VariantChoice): Device => new Device(handle, info, { variants });

/** Tiles, entries and formats of variants that a case has covered. */
const coveredTraits = new Set<string>();
/** Variants that the current case compares, by name, and the entries in which they run. */
const chosen = new Map<string, { readonly rounds: boolean; readonly entries: Set<string> }>();
/** One device for each variant's name, so that no pipeline is made twice. */
const devices = new Map<string, Device>();

const fits = (variant: Variant): boolean => canRun(variant, info);

/** Whether each packed format is a trait of its own, as in `npm run test:variants`, or all of them are one. */
const isLong = process.env["SAFETAPE_ALL_FORMATS"] !== undefined;

/**
 * Whether a case compares a variant. The variants that software adapters run by default are compared in every case. A
 * pipeline takes up to seconds, so the others run in the first case that has a new tile, entry or format of their kernel.
 */
function isCompared(launch: Launch, variant: Variant): boolean {
  const byDefault = launch.variants?.find((candidate) => candidate.subgroup === subgroup);
  return variant === byDefault || traitsOf(launch, variant).some((trait) => !coveredTraits.has(trait));
}

function traitsOf({ entry }: Launch, { kernel, name, constants }: Variant): string[] {
  const { FORMAT = 0, HEAD = 0, A_READ, B_READ } = constants;
  const format = isLong ? FORMAT : Math.min(FORMAT, 1);
  const head = isLong ? ` of heads of ${HEAD}` : "";
  // product_tiled_odd.wgsl writes in another way, and is the same otherwise.
  const base = kernel.name.replace(/_odd$/, "");
  const reads = A_READ === undefined ? [] : [`${base} reads a ${A_READ}`, `${base} reads b ${B_READ}`];
  return [kernel.name, `${base}: ${name}`, `${base}.${entry}${head}`, `${base} of format ${format}`, ...reads];
}

/** Runs the portable kernels, and notes which variants the case has to compare with them. */
const portable = deviceWith((launch) => {
  for (const variant of (launch.variants ?? []).filter(fits)) {
    if (!isCompared(launch, variant)) continue;
    traitsOf(launch, variant).forEach((trait) => coveredTraits.add(trait));
    const { name, rounds = false } = variant;
    const entries = chosen.get(name)?.entries ?? new Set();
    chosen.set(name, { rounds, entries: entries.add(launch.entry) });
  }
  return undefined;
});

/** Chooses the variants of this name, in the entries in which the current case compares them. */
const onlyVariant =
  (name: string): VariantChoice =>
  ({ entry, variants = [] }) =>
    chosen.get(name)?.entries.has(entry) ? variants.find((variant) => variant.name === name) : undefined;

afterAll(() => {
  for (const { pool } of [portable, ...devices.values()]) {
    expect(pool.ledger.liveBytes, "live bytes after all tests").toBe(0);
  }
  portable.close();
});

/** All results of a case: outputs, every gradient, mutated inputs. */
async function resultsOf(device: Device, op: Op, test: OpCase<Attributes>): Promise<Record<string, number[]>> {
  const inputs = caseInputs(op, test);
  const trainable = differentiable(op, test);
  const options = op.gradients.length > 0 ? { trainable, dy: randomOutputGradient(op, test, inputs) } : {};
  const { outputs, gradients, mutated } = await runCase(device, op, test, inputs, options);
  return Object.fromEntries(
    Object.entries({ outputs, gradients, mutated }).flatMap(([kind, values]) =>
      [...values].map(([slot, data]) => [`${kind} ${slot}`, [...data]]),
    ),
  );
}

/** Attention with heads of published models, longer than a tile. Its kernels are compiled for each size, which takes minutes. */
const headCases = [32, 64, 80, 96, 128, 256].map((head): OpCase<Attributes> => {
  const [batch, time, heads, kvHeads] = [1, 70, 2, 1];
  return {
    name: `heads of ${head}`,
    attributes: { heads, kvHeads, causal: true, scale: 0.1, dropout: 0.2, salt: 7 },
    inputs: {
      q: { shape: [batch, time, heads * head] },
      k: { shape: [batch, time, kvHeads * head] },
      v: { shape: [batch, time, kvHeads * head] },
      mask: { shape: [batch, time], values: Array.from({ length: time }, (_, i) => (i < time - 3 ? 1 : 0)) },
      seed: { shape: [batch, 2], values: [3, 4] },
    },
  };
});

const cases = OPS.flatMap((op) =>
  [...op.cases.filter(({ bench }) => !bench), ...(isLong && op.name === "attention" ? headCases : [])].map(
    (test) => [`${op.name}: ${test.name}`, op, test] as const,
  ),
);

it.each(cases)("%s: every variant gives the results of the portable kernel", async (_name, op, test) => {
  chosen.clear();
  const expected = await resultsOf(portable, op, test);
  for (const [name, { rounds }] of chosen) {
    const device = devices.get(name) ?? deviceWith(onlyVariant(name));
    devices.set(name, device);
    const results = await resultsOf(device, op, test);
    expect(Object.keys(results), name).toEqual(Object.keys(expected));
    for (const [slot, values] of Object.entries(results)) {
      if (rounds) expect(relativeError(values, expected[slot]!), `${slot}, ${name}`).toBeLessThan(TOLERANCE);
      else expect(values, `bits of ${slot}, ${name}`).toEqual(expected[slot]);
    }
  }
});

it("the cases cover a variant of every kernel that has any", () => {
  expect(subgroup, "size of subgroups").toBeGreaterThan(1);
  const kernels = new Set([...coveredTraits].map((trait) => /^\w+/.exec(trait)?.[0]));
  const products = ["product", "product_narrow_subgroup", "product_subgroup", "product_tiled", "product_tiled_odd"];
  expect([...kernels].sort()).toEqual(["attention", "attention_subgroup", "attention_tiled", ...products]);
});
