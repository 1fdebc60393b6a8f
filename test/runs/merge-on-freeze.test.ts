import { describe, expect, it } from "vitest";
import { adapterDrop, dora, fixed, initialiseModel, lora, loraPrune, safe, saveMerged, Trainer, vera } from "safetape";
import { loha, lokr, oft } from "safetape/analysis";
import { ConfigError } from "safetape/engine";
import { memoryDirectory } from "safetape/data";
import type { LoadedModel, StepReport, TrainerOptions, WeightFormat } from "safetape";
import { useEngine } from "../support/engine";
import { failure } from "../support/failure";
import { trainedValues } from "../support/tensors";
import { FAMILIES, layerNames, tiny, tinyData } from "../support/tiny";
import { some } from "../support/long";

const engine = await useEngine();

const freezes = () =>
  fixed([
    { beforeStep: 2, tensors: layerNames(0) },
    { beforeStep: 5, tensors: layerNames(2) },
  ]);

const makeTrainer = (model: LoadedModel, options: Partial<TrainerOptions> = {}): Promise<Trainer> =>
  Trainer.create({
    model,
    adapter: lora({ rank: 2, targets: "all-linear" }),
    data: tinyData(model),
    policy: freezes(),
    steps: 8,
    seed: 3,
    dropout: false,
    optimizer: { learningRate: 5e-3 },
    ...options,
  });

/** Runs steps up to this one, or all that are left. */
async function runSteps(trainer: Trainer, until = Infinity): Promise<StepReport[]> {
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

const largestDifference = (a: readonly number[], b: readonly number[]): number =>
  Math.max(...a.map((value, i) => Math.abs(value - b[i]!)));

describe.each(some(FAMILIES, 2))("merging on freeze in %s", (family) => {
  it("gives the same results up to rounding in fewer FLOPs, and restores the bits of the weights afterwards", async () => {
    using model = await initialiseModel(engine, tiny[family]());
    const before = await weightsOf(model);
    const plain = await makeTrainer(model);
    const expected = await runSteps(plain);
    const { loss } = await plain.evaluate([tinyData(model).next()]);
    const trained = await trainedValues(plain);
    plain.dispose();
    using merging = await makeTrainer(model, { mergeOnFreeze: true });
    const reports = await runSteps(merging);
    reports.forEach((report, i) => expect(report.loss).toBeCloseTo(expected[i]?.loss ?? NaN, 4));
    expect(largestDifference(await trainedValues(merging), trained)).toBeLessThan(2e-3);
    const steps = reports.filter(({ flops }, i) => flops < expected[i]!.flops).map(({ step }) => step);
    expect(steps, "steps in fewer FLOPs").toEqual([3, 4, 5, 6, 7, 8]);
    expect((await merging.evaluate([tinyData(model).next()])).loss).toBeCloseTo(loss, 4);
    expect(merging.merging?.bytes).toBeGreaterThan(0);
    expect(await weightsOf(model), "weights while merged").not.toEqual(before);
    merging.dispose();
    expect(await weightsOf(model), "weights after the trainer").toEqual(before);
  });
});

describe("merging on freeze", () => {
  it("leaves the biases that LoRA adds where they are", async () => {
    using model = await initialiseModel(engine, tiny.llama());
    const adapter = lora({ rank: 2, bias: "lora_only", addBiases: true });
    const losses = async (options: Partial<TrainerOptions>): Promise<number[]> => {
      using trainer = await makeTrainer(model, { adapter, ...options, optimizer: { learningRate: 5e-2 } });
      return (await runSteps(trainer)).map(({ loss }) => loss);
    };
    const expected = await losses({});
    const actual = await losses({ mergeOnFreeze: true });
    expect(largestDifference(actual, expected)).toBeLessThan(1e-4);
    expect(Math.abs(expected.at(-1)! - expected[0]!), "what is learned").toBeGreaterThan(1e-2);
  });

  it.each([
    ["DoRA", () => dora({ rank: 2 })],
    ["LoHa", () => loha({ rank: 2, alpha: 8 })],
    ["LoKr", () => lokr({ rank: 1, alpha: 8 })],
    ["OFT", () => oft({ blockSize: 4 })],
  ])("merges %s", async (_, makeAdapter) => {
    using model = await initialiseModel(engine, tiny.bert());
    const before = await weightsOf(model);
    const losses = async (options: Partial<TrainerOptions>): Promise<StepReport[]> => {
      using trainer = await makeTrainer(model, {
        adapter: makeAdapter(),
        ...options,
        optimizer: { learningRate: 2e-2 },
      });
      return await runSteps(trainer);
    };
    const expected = await losses({});
    const merging = await losses({ mergeOnFreeze: true });
    merging.forEach(({ loss }, i) => expect(loss).toBeCloseTo(expected[i]!.loss, 4));
    expect(merging.at(-1)!.flops).toBeLessThan(expected.at(-1)!.flops);
    expect(await weightsOf(model)).toEqual(before);
  });

  it.each<WeightFormat>(["f16", "bf16"])("works on weights in %s", async (weights) => {
    using model = await initialiseModel(engine, tiny.llama(), { weights });
    const before = await weightsOf(model);
    const adapter = lora({ rank: 2 });
    const plain = await makeTrainer(model, { adapter });
    const expected = await runSteps(plain);
    plain.dispose();
    using merging = await makeTrainer(model, { adapter, mergeOnFreeze: true });
    const reports = await runSteps(merging);
    reports.forEach(({ loss }, i) => expect(loss).toBeCloseTo(expected[i]?.loss ?? NaN, 2));
    merging.dispose();
    expect(await weightsOf(model)).toEqual(before);
  });

  it("keeps a LoRA whose sum with its weight f16 cannot hold", async () => {
    using model = await initialiseModel(engine, tiny.bert(), { weights: "f16" });
    const adapter = lora({ rank: 2 });
    const plain = await makeTrainer(model, { adapter });
    const [large] = [...plain.state.specs.keys()].filter((name) =>
      name.includes("layer.0.attention.self.value.lora_A"),
    );
    const initial = new Map(await plain.state.snapshot());
    // One element of B A is 300 x 300 x alpha / rank.
    for (const name of [large!, large!.replace("lora_A", "lora_B")]) {
      const { shape, data } = initial.get(name)!;
      initial.set(name, { shape, data: data.map((_, i) => (i === 0 ? 300 : 0)) });
    }
    plain.dispose();
    const unmerged = await makeTrainer(model, { adapter, initial });
    const expected = await runSteps(unmerged);
    unmerged.dispose();
    using merging = await makeTrainer(model, { adapter, initial, mergeOnFreeze: true });
    const reports = await runSteps(merging);
    const merged = [...(merging.merging?.originals.keys() ?? [])].filter((name) => name.includes("layer.0."));
    expect(merged).toEqual([expect.stringContaining("query.weight")]);
    reports.forEach(({ loss }, i) => expect(loss).toBeCloseTo(expected[i]?.loss ?? NaN, 2));
  });

  it("can be undone in the middle of a run, which then continues without it", async () => {
    using model = await initialiseModel(engine, tiny.bert());
    const before = await weightsOf(model);
    const plain = await makeTrainer(model);
    const expected = await runSteps(plain);
    plain.dispose();
    using merging = await makeTrainer(model, { mergeOnFreeze: true });
    const first = await runSteps(merging, 4);
    await merging.unmerge();
    expect(await weightsOf(model)).toEqual(before);
    expect(merging.predictedBytes()).toEqual(engine.ledger.live);
    const rest = await runSteps(merging);
    expect(rest.map(({ flops }) => flops)).toEqual(expected.slice(4).map(({ flops }) => flops));
    [...first, ...rest].forEach(({ loss }, i) => expect(loss).toBeCloseTo(expected[i]?.loss ?? NaN, 4));
    expect(await weightsOf(model)).toEqual(before);
  });

  it("does not change what saveMerged writes, and merges a restored adapter again", async () => {
    using model = await initialiseModel(engine, tiny.gpt2());
    const saved = async (trainer: Trainer): Promise<Uint8Array> => {
      const directory = memoryDirectory("merged");
      await saveMerged(directory, trainer);
      return directory.read("model.safetensors", 0, (await directory.size("model.safetensors")) ?? 0);
    };
    const evaluated = async (trainer: Trainer): Promise<number> =>
      (await trainer.evaluate([tinyData(model).next()])).loss;
    using merging = await makeTrainer(model, { mergeOnFreeze: true });
    await runSteps(merging);
    const [tensors, loss, file] = [await merging.state.snapshot(), await evaluated(merging), await saved(merging)];
    const zeros = new Map([...tensors].map(([name, { data }]) => [name, { data: data.map(() => 0) }]));
    merging.state.restore(zeros);
    expect(await evaluated(merging)).not.toBeCloseTo(loss, 4);
    merging.state.restore(tensors);
    expect(await evaluated(merging)).toBe(loss);
    await merging.unmerge();
    expect(await saved(merging)).toEqual(file);
  });

  it("does not change what SAFE freezes, since SAFE scores the model as it was loaded", async () => {
    using model = await initialiseModel(engine, tiny.bert());
    const policy = () => safe({ every: 1, targetFreezeFraction: 0.6 });
    const frozen = (reports: readonly StepReport[]) =>
      reports.flatMap(({ step, freezes }) => freezes.map(({ layers }) => [step, layers]));
    const plain = await makeTrainer(model, { policy: policy() });
    const expected = frozen(await runSteps(plain));
    plain.dispose();
    using merging = await makeTrainer(model, { policy: policy(), mergeOnFreeze: true });
    expect(frozen(await runSteps(merging))).toEqual(expected);
    expect(expected.length, "freezes").toBeGreaterThan(0);
    expect(merging.merging?.bytes).toBeGreaterThan(0);
  });

  it("writes nothing to a model that is disposed of before the trainer", async () => {
    const model = await initialiseModel(engine, tiny.bert());
    const trainer = await makeTrainer(model, { mergeOnFreeze: true });
    await runSteps(trainer, 3);
    expect(trainer.merging?.bytes).toBeGreaterThan(0);
    model.dispose();
    trainer.dispose();
  });

  it("gives the same bits with a cached prefix as without", async () => {
    using model = await initialiseModel(engine, tiny.bert());
    using alone = await makeTrainer(model, { mergeOnFreeze: true });
    const expected = await runSteps(alone);
    const weights = await trainedValues(alone);
    alone.dispose();
    using both = await makeTrainer(model, { mergeOnFreeze: true, prefixCache: true });
    const reports = await runSteps(both);
    expect(reports.map(({ loss }) => loss)).toEqual(expected.map(({ loss }) => loss));
    expect(await trainedValues(both)).toEqual(weights);
    expect(reports.at(-1)?.prefix).toMatchObject({ layer: 1, hits: 1 });
  });
});

describe("merging on freeze is refused", () => {
  it.each<[string, Partial<TrainerOptions>, WeightFormat, RegExp]>([
    ["for another adapter", { adapter: vera() }, "f32", /vera is not merged/],
    ["into NF4", {}, "nf4", /is stored as nf4/],
    ["with AdapterDrop", { policy: adapterDrop() }, "f32", /leaves LoRAs out/],
    ["with LoRAPrune", { policy: loraPrune() }, "f32", /masks what a LoRA is merged into/],
  ])("%s", async (_, options, weights, message) => {
    using model = await initialiseModel(engine, tiny.bert(), { weights });
    const error = await failure(makeTrainer(model, { mergeOnFreeze: true, ...options }), ConfigError);
    expect(error.message).toMatch(message);
  });
});
