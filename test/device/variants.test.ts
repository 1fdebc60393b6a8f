import { afterAll, expect, it } from "vitest";
import { Device, openDevice } from "../../src/gpu/device";
import { nodeGpu } from "../../src/node/gpu";
import { napping } from "../../src/node/napping";
import type { Attributes, Op, OpCase } from "../../src/op/declaration";
import { OPS } from "../../src/testing/ops";
import { planCase } from "../../src/testing/case-plan";
import { CaseReference } from "../../src/testing/case-reference";
import { HALF_TOLERANCE, relativeError } from "../../src/base/relative-error";
import { runCase } from "../../src/testing/run-case";
import { VariantWalk } from "../../src/testing/variant-walk";
import type { Compared } from "../../src/testing/variant-walk";
import { isLong as hasWholeSuites } from "../support/long";

/** Tolerance for sums of f32 in another order. */
const TOLERANCE = 1e-5;

const { handle, info } = await openDevice(await nodeGpu());
const { subgroup } = info;
/** Whether each packed format and size of heads is compared on its own, as in `npm run test:variants`. */
const isLong = process.env["SAFETAPE_ALL_FORMATS"] !== undefined;
/**
 * Kernels of which one adapter compares less than all variants, as these take minutes to compile on it: the other one compares all, or, in
 * `npm test`, one of each entry. In `npm run test:variants` both compare all.
 */
const COMPARED: Readonly<Record<string, Readonly<Record<string, Compared>>>> = {
  llvmpipe: {
    product_tiled: "none",
    product_tiled_odd: "none",
    product_subgroup: "entries",
    product_narrow_subgroup: "entries",
    attention_subgroup: "entries",
  },
  swiftshader: {
    attention_tiled: "none",
    ...(!hasWholeSuites && {
      product_subgroup: "entries",
      product_narrow_subgroup: "entries",
      attention_subgroup: "entries",
    }),
  },
};
const compared = isLong ? {} : COMPARED[process.env["SAFETAPE_ADAPTER"] ?? ""];
const walk = new VariantWalk(info, isLong, (kernel) => compared?.[kernel] ?? "all");
const device = new Device(handle, info, { variants: walk.choose, waiting: napping });

afterAll(() => {
  expect(device.pool.ledger.liveBytes, "live bytes after all tests").toBe(0);
  device.close();
});

/** All results of a case: outputs, every gradient, mutated inputs. */
async function resultsOf(
  op: Op,
  test: OpCase<Attributes>,
  reference: CaseReference,
): Promise<Record<string, number[]>> {
  const { outputs, gradients, mutated } = await runCase(device, op, test, reference.inputs, reference.differentiation);
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
    attributes: { heads, kvHeads, after: 0, scale: 0.1, dropout: 0.2, salt: 7 },
    inputs: {
      q: { shape: [batch, time, heads * head] },
      k: { shape: [batch, time, kvHeads * head] },
      v: { shape: [batch, time, kvHeads * head] },
      mask: { shape: [batch, time], values: Array.from({ length: time }, (_, i) => (i < time - 3 ? 1 : 0)) },
      seed: { shape: [batch, 2], values: [3, 4] },
    },
  };
});

/** Attention with a key and a query for each difference of positions, and heads wider than the lanes of a tile. */
const rowsCase: OpCase<Attributes> = {
  name: "rows for each distance, heads of 64",
  attributes: { heads: 2, kvHeads: 2, form: "rows", columns: 75, scale: 0.1, dropout: 0.2, salt: 7 },
  inputs: {
    q: { shape: [1, 70, 128] },
    k: { shape: [1, 70, 128] },
    v: { shape: [1, 70, 128] },
    relative: { shape: [149, 2, 128] },
    mask: { shape: [1, 70], values: Array.from({ length: 70 }, (_, i) => (i < 67 ? 1 : 0)) },
    seed: { shape: [1, 2], values: [3, 4] },
  },
};

/** The same with everything else on which scores depend, and heads that share keys and values. */
const limitedRowsCase: OpCase<Attributes> = {
  name: "rows for each distance, window, cap, segments, grouped queries",
  attributes: {
    ...rowsCase.attributes,
    heads: 4,
    columns: 70,
    before: 20,
    after: 9,
    cap: 2,
    segments: true,
  },
  inputs: {
    ...rowsCase.inputs,
    q: { shape: [1, 70, 80] },
    k: { shape: [1, 70, 40] },
    v: { shape: [1, 70, 40] },
    relative: { shape: [139, 2, 80] },
    mask: { shape: [1, 70], values: Array.from({ length: 70 }, (_, i) => Math.floor(i / 40)) },
  },
};

/** Cases of ops whose kernels take minutes to compile. */
const LONG_CASES: Readonly<Record<string, readonly OpCase<Attributes>[]>> = {
  attention: headCases,
  relative_attention: [rowsCase, limitedRowsCase],
};

/** Whether a case has an input in a packed format. Its kernels take twice as long to compile, so that others go first. */
const isPacked = ({ inputs }: OpCase<Attributes>): boolean => Object.values(inputs).some(({ format }) => format);

/**
 * Cases of attention for which every kernel is compiled once more, only in `npm run test:variants`: those that cut launches, and on
 * llvmpipe positions on a grid.
 */
const isLongAttention = (op: Op, { name }: OpCase<Attributes>): boolean =>
  op.name.includes("attention") &&
  (name.includes("split over bindings") ||
    (process.env["SAFETAPE_ADAPTER"] === "llvmpipe" && name.includes("on a grid")));

/** Whether a case has anything to compare. */
const hasVariant = (op: Op, test: OpCase<Attributes>): boolean =>
  planCase(op, test).launches.some(({ launch }) => launch.variants?.some((variant) => walk.compares(variant)));

const cases = OPS.flatMap((op) => {
  const tests = op.cases.filter(
    (test) => !test.bench && (isLong || !isLongAttention(op, test)) && hasVariant(op, test),
  );
  return [
    ...tests.filter((test) => !isPacked(test)),
    ...tests.filter((test) => isPacked(test)),
    ...((isLong && LONG_CASES[op.name]) || []),
  ].map((test) => [`${op.name}: ${test.name}`, op, test] as const);
});

it.each(cases)("%s: every variant gives the results of the portable kernel", async (_name, op, test) => {
  const reference = new CaseReference(op, test);
  let expected: Record<string, number[]> = {};
  await walk.run(
    async () => void (expected = await resultsOf(op, test, reference)),
    async (name, { rounds, half }) => {
      const tolerance = half ? HALF_TOLERANCE : TOLERANCE;
      const results = await resultsOf(op, test, reference);
      expect(Object.keys(results), name).toEqual(Object.keys(expected));
      for (const [slot, values] of Object.entries(results)) {
        if (rounds) expect(relativeError(values, expected[slot]!), `${slot}, ${name}`).toBeLessThan(tolerance);
        else expect(values, `bits of ${slot}, ${name}`).toEqual(expected[slot]);
      }
    },
  );
});

it("the cases have compared a variant of every kernel that has any", () => {
  expect(subgroup, "size of subgroups").toBeGreaterThan(1);
  const variants = cases.flatMap(([, op, test]) =>
    planCase(op, test).launches.flatMap(({ launch }) => launch.variants ?? []),
  );
  const kernels = new Set(variants.filter((variant) => walk.compares(variant)).map(({ kernel }) => kernel.name));
  expect(kernels.size).toBeGreaterThan(5);
  expect([...kernels].filter((name) => !walk.covered.has(name))).toEqual([]);
});
