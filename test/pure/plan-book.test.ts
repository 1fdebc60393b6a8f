import { describe, expect, it } from "vitest";
import { adapterDrop, aflora, lora, sora } from "safetape";
import { Batches } from "safetape/data";
import type { Batch } from "safetape/data";
import { MemoryBudgetError } from "safetape/engine";
import type { Adapter } from "safetape";
import { createModel } from "../../src/model/families";
import { DEFAULT_LIMITS } from "../../src/op/limits";
import { executorBytes } from "../../src/run/footprint";
import { sumBytes } from "../../src/gpu/ledger";
import { adamW } from "../../src/optimizer/adamw";
import type { Plan } from "../../src/tape/plan";
import { groupOf } from "../../src/optimizer/settings";
import { PlanBook } from "../../src/train/plans/plan-book";
import type { PlanBookOptions } from "../../src/train/plans/plan-book";
import { recomputedSections } from "../../src/train/plans/recompute";
import { sidePlans } from "../../src/train/plans/side-plans";
import type { SidePlanOptions } from "../../src/train/plans/side-plans";
import { stepVariants } from "../../src/train/plans/step-variants";
import type { StepVariants } from "../../src/train/plans/step-variants";
import { companionsOf } from "../../src/train/tensors/names";
import { trainableSpecs } from "../../src/train/tensors/specs";
import { failure } from "../support/failure";
import { tiny, tinySamples } from "../support/tiny";

const model = createModel(tiny.bert());
const limits = DEFAULT_LIMITS;

/** Sets of layers that steps with LoRA leave out. */
const leftOut = (sets: readonly (readonly number[])[], adaptersAct = false): StepVariants =>
  stepVariants({ ...adapterDrop(), variants: () => sets, adaptersAct }, model, lora({ rank: 2 }))!;

/** The plans of an adapter's steps on batches of 4 rows and 16 tokens. */
function bookOf(adapter: Adapter, options: Partial<PlanBookOptions> = {}): PlanBook {
  const names = new Set(trainableSpecs(model, adapter).keys());
  const book = new PlanBook(
    {
      planned: { model, fragileNorms: new Set() },
      traced: { adapter, isTraining: true },
      limits,
      accumulates: false,
      ...options,
    },
    names,
  );
  book.addShape({ size: 4, length: 16 });
  return book;
}

describe("the plans of steps", () => {
  const without = (live: ReadonlySet<string>, part: string): Set<string> =>
    new Set([...live].filter((name) => !name.includes(part)));
  const tooLarge = () => new MemoryBudgetError("This run needs 2 bytes; the budget is 1.", "Give 2.", 2, 1);

  it("stay unchanged after freezes whose plans do not fit, until those of a freeze fit", () => {
    const refusedSets = new Set<ReadonlySet<string>>();
    const book = bookOf(lora({ rank: 2 }), {
      choose: (live, rows) => {
        if (refusedSets.has(live)) throw tooLarge();
        return { rows, sections: new Set() };
      },
    });
    book.freezeTo(book.reached);
    const [live, plans] = [book.live, book.plans];
    const refused = without(live, "layer.1.");
    refusedSets.add(refused);
    expect(book.after(refused)).toEqual({ live, plans });
    book.freezeTo(refused);
    expect(book.live).toBe(live);
    expect(book.plans.every((plan, i) => plan === plans[i])).toBe(true);
    const smaller = without(refused, "layer.0.");
    book.freezeTo(smaller);
    expect(book.live).toBe(smaller);
    expect(book.plans[0]?.gradients.size).toBe(smaller.size);
  });

  it("are refused at the start if they do not fit", async () => {
    const book = bookOf(lora({ rank: 2 }), {
      choose: () => {
        throw tooLarge();
      },
    });
    expect(await failure(() => book.freezeTo(book.reached), MemoryBudgetError)).toMatchObject({ neededBytes: 2 });
  });

  it("are made for the declared variants and no others", () => {
    const book = bookOf(lora({ rank: 2 }), { variants: leftOut([[0], [0, 1]]) });
    expect(book.plans).toHaveLength(3);
    expect([[], [0], [0, 1], [1]].map((dropped) => book.hasVariant(dropped))).toEqual([true, true, true, false]);
    expect(book.save().variants).toEqual([[], [0], [0, 1]]);
  });
});

describe("steps in which adapters rest", () => {
  const batch = (size: number): Batch =>
    new Batches(tinySamples(size), { size, maxLength: 16, multiple: 16, labels: "class" }).next();
  const bytes = (plans: readonly Plan[]): number => sumBytes(executorBytes(plans));

  it("are whole; those in which all learn run in parts that fit beside them but for a quarter", () => {
    const book = bookOf(lora({ rank: 2 }), { variants: leftOut([[0], [0, 1]], true) });
    book.addShape({ size: 16, length: 16 });
    const sizesOf = (dropped: readonly number[]): number[] =>
      book.split(batch(16), dropped).map((part) => part.batch.size);
    expect(sizesOf([0, 1])).toEqual([16]);
    const all = sizesOf([]);
    expect(all.length).toBeGreaterThan(1);
    const resting = book.planFor(batch(16), false, [0, 1]);
    const fits = (size: number): boolean =>
      bytes([resting, book.planFor(batch(size), false)]) <= 1.25 * bytes([resting]);
    expect([all[0]!, 2 * all[0]!].map(fits), "and no more parts than that takes").toEqual([true, false]);
  });

  it("have no gradient of what rests, though it acts", () => {
    const book = bookOf(lora({ rank: 2 }), { variants: leftOut([[0, 1]], true) });
    const [whole, resting] = [book.planFor(batch(4), false), book.planFor(batch(4), false, [0, 1])];
    const isLow = (name: string): boolean => /layer\.[01]\./.test(name);
    expect([...resting.gradients.keys()]).toEqual([...whole.gradients.keys()].filter((name) => !isLow(name)));
    expect(resting.flops.forward).toBe(whole.flops.forward);
    expect(resting.flops.backward).toBeLessThan(whole.flops.backward);
  });
});

describe("side plans", () => {
  const none = new Set<string>();
  const sidePlansOf = (adapter: Adapter, options: Partial<SidePlanOptions> = {}, masked = none) => {
    const defaults = {
      optimizer: adamW(),
      statistics: [],
      pruning: undefined,
      sumsLosses: false,
      limits,
    };
    return sidePlans(
      { planned: { model }, adapter, variants: undefined, ...defaults, ...options },
      trainableSpecs(model, adapter),
      masked,
    );
  };
  const launches = ({ all }: ReturnType<typeof sidePlansOf>): number => all.flatMap((plan) => plan.launches).length;

  it("are one update by default", () => {
    const { all, updates, ...others } = sidePlansOf(lora({ rank: 2 }));
    expect(all).toEqual([updates.get("")?.update]);
    expect(others).toEqual({ statistics: [], importance: undefined, lossSum: undefined });
  });

  it("have one more launch for each soft threshold and each mask", () => {
    const adapter = sora({ rank: 2 });
    const [plain, thresholded] = [sidePlansOf({ ...adapter, proximal: () => undefined }), sidePlansOf(adapter)];
    // A query and a value in each of three layers have gates.
    expect(launches(thresholded) - launches(plain)).toBe(6);
    expect(sumBytes(executorBytes(thresholded.all))).toBeGreaterThan(sumBytes(executorBytes(plain.all)));
    const masked = new Set(trainableSpecs(model, adapter).keys());
    expect(launches(sidePlansOf(adapter, {}, masked)) - launches(thresholded)).toBe(masked.size);
  });

  it("have an update for each variant, whose groups are its layers", () => {
    const { updates, all } = sidePlansOf(lora({ rank: 2 }), { variants: leftOut([[0], [0, 1]]), sumsLosses: true });
    expect(all).toHaveLength(4);
    const group = (layer: number | string): string => `hyper of layer ${layer}`;
    expect([...(updates.get("0, 1")?.groups.keys() ?? [])]).toEqual([group(2), group("none")]);
    expect([...(updates.get("")?.groups.keys() ?? [])]).toEqual([group(0), group(1), group(2), group("none")]);
  });

  it("have a group for the head where it has a learning rate of its own", () => {
    const optimizer = adamW({
      learningRate: 0.1,
      headLearningRate: 0.3,
      weightDecay: 0.2,
      noDecay: /bias/g,
    });
    const groupsOf = (options: Partial<SidePlanOptions>) => {
      const { groups } = sidePlansOf(lora({ rank: 2 }), { optimizer, ...options }).updates.get("")!;
      return [...groups].map(([input, { learningRate }]) => [input, learningRate]);
    };
    expect(groupsOf({})).toEqual([
      ["hyper", 0.1],
      ["hyper of the head", 0.3],
    ]);
    expect(groupsOf({ variants: leftOut([[0]]) }).at(-1)).toEqual(["hyper of the head of layer none", 0.3]);
    const decays = ["a.bias", "b.bias", "b.weight"].map((name) => groupOf(optimizer.settings, name).weightDecay);
    expect(decays, "a pattern with the flag g keeps no position").toEqual([0, 0, 0.2]);
  });

  it("have an input for each learning rate of a group, and a setting is that of the first group that gives it", () => {
    const optimizer = adamW({
      learningRate: 0.1,
      headLearningRate: 0.3,
      weightDecay: 0.2,
      noDecay: /bias/,
      groups: [
        { match: /b\.bias/, weightDecay: 0.5 },
        { match: /^b/, learningRate: 0.4 },
        { match: "head", weightDecay: 0.6 },
      ],
    });
    const of = (name: string, isHead = false) => groupOf(optimizer.settings, name, isHead);
    expect(of("a.weight")).toEqual({ input: "hyper", learningRate: 0.1, weightDecay: 0.2 });
    expect(of("a.bias")).toEqual({ input: "hyper", learningRate: 0.1, weightDecay: 0 });
    expect(of("b.bias")).toEqual({ input: "hyper of group 1", learningRate: 0.4, weightDecay: 0.5 });
    expect(of("b.weight", true)).toEqual({ input: "hyper of group 1", learningRate: 0.4, weightDecay: 0.6 });
    expect(of("a.weight", true)).toEqual({ input: "hyper of the head", learningRate: 0.3, weightDecay: 0.6 });
  });

  it("include the norm of the gradients if statistics are collected before the update", () => {
    const statistics = { kind: "gradient" as const, beta1: 0.9, beta2: 0.9, applies: () => true };
    const adapter = aflora({ rank: 2 });
    const before = sidePlansOf(adapter, { statistics: [{ ...statistics, when: "before_update" }] });
    expect(before.updates.get("")?.norm).toBeDefined();
    expect(before.all).toHaveLength(3);
    const after = sidePlansOf(adapter, { statistics: [{ ...statistics, when: "after_update" }] });
    expect(after.updates.get("")?.norm).toBeUndefined();
    expect(after.all).toHaveLength(2);
  });

  it("update the companions of each tensor: gradient, moments, statistics and mask", () => {
    const statistics = {
      kind: "gradient" as const,
      beta1: 0,
      beta2: 0,
      window: 2,
      applies: (name: string) => name === "a",
    };
    const names = (parameter: string, isMasked = false) =>
      companionsOf(parameter, [3], {
        optimizer: adamW(),
        isMasked,
        statistics: [{ ...statistics, when: "after_update" }],
      }).map(({ key }) => key);
    expect(names("b")).toEqual(["gradient of b", "first moment of b", "second moment of b"]);
    expect(names("a", true)).toHaveLength(7);
    expect(names("a", true).at(-1)).toBe("mask of a");
  });
});

describe("recomputation within a budget", () => {
  it("is refused below the smaller need of none and of all sections, and accepted at that need", async () => {
    const needs = (sections: ReadonlySet<string>): number => 10 + sections.size;
    const error = await failure(() => recomputedSections(model, 9, needs), MemoryBudgetError);
    expect(error.neededBytes).toBe(10);
    expect(recomputedSections(model, error.neededBytes, needs).size).toBe(0);
  });
});
