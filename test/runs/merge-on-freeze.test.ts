import { describe, expect, it } from "vitest";
import { adapterDrop, ConfigError, fixed, initialiseModel, lora, loraPrune, memoryDirectory } from "safetape";
import { safe, saveMerged, Trainer, vera } from "safetape";
import type { LoadedModel, StepReport, TrainerOptions, WeightFormat } from "safetape";
import { useEngine } from "../support/engine";
import { FAMILIES, tiny, tinyData } from "../support/tiny";

const engine = await useEngine();

const layerNames = (layer: number): string[] => ["layer", "layers", "h"].map((list) => `${list}.${layer}.`);
const FREEZES = () =>
  fixed([
    { beforeStep: 2, tensors: layerNames(0) },
    { beforeStep: 5, tensors: layerNames(2) },
  ]);
const MERGES = { mergeOnFreeze: true } as const;

const create = (model: LoadedModel, options: Partial<TrainerOptions> = {}): Promise<Trainer> =>
  Trainer.create({
    model,
    adapter: lora({ rank: 2, targets: "all-linear" }),
    data: tinyData(model),
    policy: FREEZES(),
    steps: 8,
    seed: 3,
    dropout: false,
    optimizer: { learningRate: 5e-3 },
    ...options,
  });

/** Walks to the end, or so far. */
async function walk(trainer: Trainer, until = Infinity): Promise<StepReport[]> {
  const reports: StepReport[] = [];
  for await (const report of trainer.steps()) {
    expect(report.bytes, "ledger against plan").toEqual(trainer.predictedBytes());
    reports.push(report);
    if (report.step >= until) break;
  }
  return reports;
}

async function weightsOf({ weights }: LoadedModel): Promise<number[][]> {
  const tensors = [...weights.values()];
  return Promise.all(tensors.map(async (tensor) => [...(await tensor.read())]));
}

const adapterOf = async ({ state }: Trainer): Promise<number[]> =>
  [...(await state.snapshot()).values()].flatMap(({ data }) => [...data]);

const largestDifference = (a: readonly number[], b: readonly number[]): number =>
  Math.max(...a.map((value, i) => Math.abs(value - b[i]!)));

describe.each(FAMILIES)("merging on freeze in %s", (family) => {
  it("gives the same up to rounding in fewer FLOPs, and the weights their bits back", async () => {
    using model = await initialiseModel(engine, tiny[family]());
    const before = await weightsOf(model);
    const plain = await create(model);
    const expected = await walk(plain);
    const { loss } = await plain.evaluate([tinyData(model).next()]);
    const learnt = await adapterOf(plain);
    plain.dispose();
    using merging = await create(model, MERGES);
    const found = await walk(merging);
    found.forEach((report, i) => expect(report.loss).toBeCloseTo(expected[i]?.loss ?? NaN, 4));
    expect(largestDifference(await adapterOf(merging), learnt)).toBeLessThan(2e-3);
    expect(found.map(({ flops }, i) => flops < (expected[i]?.flops ?? 0))).toEqual(
      [0, 0, 1, 1, 1, 1, 1, 1].map(Boolean),
    );
    expect((await merging.evaluate([tinyData(model).next()])).loss).toBeCloseTo(loss, 4);
    expect(merging.merging?.bytes).toBeGreaterThan(0);
    expect(await weightsOf(model), "weights while merged").not.toEqual(before);
    merging.dispose();
    expect(await weightsOf(model), "weights after the trainer").toEqual(before);
  });
});

describe("merging on freeze", () => {
  it.each<WeightFormat>(["f16", "bf16"])("works on weights in %s", async (weights) => {
    using model = await initialiseModel(engine, tiny.llama(), { weights });
    const before = await weightsOf(model);
    const adapter = lora({ rank: 2 });
    const plain = await create(model, { adapter });
    const expected = await walk(plain);
    plain.dispose();
    using merging = await create(model, { adapter, ...MERGES });
    const found = await walk(merging);
    found.forEach(({ loss }, i) => expect(loss).toBeCloseTo(expected[i]?.loss ?? NaN, 2));
    merging.dispose();
    expect(await weightsOf(model)).toEqual(before);
  });

  it("can be undone in the middle of a run, which then goes on without it", async () => {
    using model = await initialiseModel(engine, tiny.bert());
    const before = await weightsOf(model);
    const plain = await create(model);
    const expected = await walk(plain);
    plain.dispose();
    using merging = await create(model, MERGES);
    const first = await walk(merging, 4);
    await merging.unmerge();
    expect(await weightsOf(model)).toEqual(before);
    expect(merging.predictedBytes()).toEqual(engine.ledger.live);
    const rest = await walk(merging);
    expect(rest.map(({ flops }) => flops)).toEqual(expected.slice(4).map(({ flops }) => flops));
    [...first, ...rest].forEach(({ loss }, i) => expect(loss).toBeCloseTo(expected[i]?.loss ?? NaN, 4));
    expect(await weightsOf(model)).toEqual(before);
  });

  it("saves the merged model that it would save without, and merges a restored adapter anew", async () => {
    using model = await initialiseModel(engine, tiny.gpt2());
    const saved = async (trainer: Trainer): Promise<Uint8Array> => {
      const directory = memoryDirectory("merged");
      await saveMerged(directory, trainer);
      return directory.read("model.safetensors", 0, (await directory.size("model.safetensors")) ?? 0);
    };
    const evaluated = async (trainer: Trainer): Promise<number> =>
      (await trainer.evaluate([tinyData(model).next()])).loss;
    using merging = await create(model, MERGES);
    await walk(merging);
    const [tensors, loss, file] = [await merging.state.snapshot(), await evaluated(merging), await saved(merging)];
    const zeros = new Map([...tensors].map(([name, { data }]) => [name, { data: data.map(() => 0) }]));
    merging.state.restore(zeros);
    expect(await evaluated(merging)).not.toBeCloseTo(loss, 4);
    merging.state.restore(tensors);
    expect(await evaluated(merging)).toBe(loss);
    await merging.unmerge();
    expect(await saved(merging)).toEqual(file);
  });

  it("lets SAFE score the model as it was loaded: it freezes what it would freeze without", async () => {
    using model = await initialiseModel(engine, tiny.bert());
    const policy = () => safe({ every: 1, targetFreezeFraction: 0.6 });
    const frozen = (reports: readonly StepReport[]) =>
      reports.flatMap(({ step, freezes }) => freezes.map(({ layers }) => [step, layers]));
    const plain = await create(model, { policy: policy() });
    const expected = frozen(await walk(plain));
    plain.dispose();
    using merging = await create(model, { policy: policy(), ...MERGES });
    expect(frozen(await walk(merging))).toEqual(expected);
    expect(expected.length, "freezes").toBeGreaterThan(0);
    expect(merging.merging?.bytes).toBeGreaterThan(0);
  });

  it("leaves a model alone that went before the trainer", async () => {
    const model = await initialiseModel(engine, tiny.bert());
    const trainer = await create(model, MERGES);
    await walk(trainer, 3);
    expect(trainer.merging?.bytes).toBeGreaterThan(0);
    model.dispose();
    trainer.dispose();
  });

  it("goes together with a cached prefix, to the bits of merging alone", async () => {
    using model = await initialiseModel(engine, tiny.bert());
    using alone = await create(model, MERGES);
    const expected = await walk(alone);
    const weights = await adapterOf(alone);
    alone.dispose();
    using both = await create(model, { ...MERGES, prefixCache: true });
    const found = await walk(both);
    expect(found.map(({ loss }) => loss)).toEqual(expected.map(({ loss }) => loss));
    expect(await adapterOf(both)).toEqual(weights);
    expect(found.at(-1)?.prefix).toMatchObject({ layer: 1, hits: 1 });
  });
});

describe("refuses to merge", () => {
  it.each<[string, Partial<TrainerOptions>, WeightFormat, RegExp]>([
    ["another adapter", { adapter: vera() }, "f32", /vera is not merged/],
    ["into NF4", {}, "nf4", /is stored as nf4/],
    ["beside AdapterDrop", { policy: adapterDrop() }, "f32", /leaves LoRAs out/],
    ["beside LoRAPrune", { policy: loraPrune() }, "f32", /masks what a LoRA is merged into/],
  ])("%s", async (_, options, weights, message) => {
    using model = await initialiseModel(engine, tiny.bert(), { weights });
    const failure = await create(model, { ...MERGES, ...options }).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(ConfigError);
    expect((failure as Error).message).toMatch(message);
  });
});
