import { describe, expect, it } from "vitest";
import {
  aflora,
  afloraFreezing,
  fixed,
  generate,
  ia3,
  initialiseModel,
  loadAdapter,
  lora,
  openDirectory,
  loadModel,
  safe,
  saveAdapter,
  saveMerged,
  Trainer,
} from "safetape";
import { ConfigError } from "safetape/engine";
import { memoryDirectory } from "safetape/data";
import { makeAdapter } from "safetape/analysis";
import type { LoadedModel, StepReport, TrainerOptions } from "safetape";
import { useEngine } from "../support/engine";
import { failure } from "../support/failure";
import { trainedValues } from "../support/tensors";
import { SEQ2SEQ_FAMILIES, tiny, tinyData } from "../support/tiny";
import type { Seq2seqFamily } from "../support/tiny";
import { some } from "../support/long";

const engine = await useEngine();

const open = (family: Seq2seqFamily): Promise<LoadedModel> =>
  initialiseModel(engine, tiny[family]({ initializer_range: 0.2 }));
const STEPS = 5;

/** Parts of the names of an encoder's tensors. */
const ENCODER = ["encoder.block.", "model.encoder.layers."];

interface Result {
  readonly reports: readonly StepReport[];
  readonly losses: readonly number[];
  readonly weights: readonly number[];
}

/** Steps of three an epoch; the encoder's adapters freeze after four. */
async function train(model: LoadedModel, options: Partial<TrainerOptions> = {}): Promise<Result> {
  const adapter = lora({ rank: 2, targets: "all-linear" });
  const policy = fixed([{ beforeStep: 4, tensors: ENCODER }]);
  const data = tinyData(model, 3, 8);
  using trainer = await Trainer.create({ model, adapter, policy, data, steps: STEPS, seed: 3, ...options });
  const reports: StepReport[] = [];
  for await (const report of trainer.steps()) {
    expect(report.bytes, "ledger against plan").toEqual(trainer.predictedBytes());
    reports.push(report);
  }
  return { reports, losses: reports.map(({ loss }) => loss), weights: await trainedValues(trainer) };
}

describe.each(some(SEQ2SEQ_FAMILIES, 2))("training %s", (family) => {
  it("gives the same bits with layers or feed-forwards recomputed, which keeps less", async () => {
    using model = await open(family);
    const options = { accumulate: 2, adapter: lora({ rank: 2, dropout: 0.2, targets: "all-linear" }) };
    const plain = await train(model, options);
    let kept = plain.reports[0]!.bytes.saved;
    for (const recompute of ["mlp", "layers"] as const) {
      const recomputed = await train(model, { ...options, memory: { recompute } });
      expect(recomputed.losses, recompute).toEqual(plain.losses);
      expect(recomputed.weights, recompute).toEqual(plain.weights);
      expect(recomputed.reports[0]!.bytes.saved, recompute).toBeLessThan(kept);
      kept = recomputed.reports[0]!.bytes.saved;
    }
  });

  it("ends backward passes at the decoder once the encoder is frozen, and caches the encoder's output", async () => {
    using model = await open(family);
    const options = { dropout: false, steps: 12, data: tinyData(model, 3) };
    const plain = await train(model, options);
    expect(plain.reports.map(({ horizon }) => horizon).slice(2, 5)).toEqual([0, 2, 2]);
    const cached = await train(model, { ...options, data: tinyData(model, 3), prefixCache: true });
    expect(cached.losses).toEqual(plain.losses);
    expect(cached.weights).toEqual(plain.weights);
    expect(cached.reports.map(({ prefix }) => prefix!.layer)).toEqual([0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 2, 2]);
    expect(cached.reports.slice(9).map(({ prefix }) => prefix!.hits)).toEqual([1, 1, 1]);
    expect(cached.reports.at(-1)!.flops).toBeLessThan(0.8 * plain.reports.at(-1)!.flops);
  });

  it("in parts of a batch gives the loss of the complete batch", async () => {
    using model = await open(family);
    const [complete, inParts] = [await train(model), await train(model, { memory: { microBatch: 2 } })];
    inParts.losses.forEach((loss, i) => expect(loss).toBeCloseTo(complete.losses[i]!, 4));
  });

  it("goes on from a checkpoint to the same bits", async () => {
    using model = await open(family);
    const whole = await train(model);
    const directory = memoryDirectory("checkpoints");
    const settings = {
      model,
      adapter: lora({ rank: 2, targets: "all-linear" }),
      policy: fixed([{ beforeStep: 4, tensors: ENCODER }]),
      steps: STEPS,
      seed: 3,
      checkpoints: { directory },
    };
    {
      using trainer = await Trainer.create({ ...settings, data: tinyData(model, 3, 8) });
      for await (const { step } of trainer.steps()) if (step === 4) break;
      await trainer.saveCheckpoint();
    }
    using resumed = await Trainer.create({
      ...settings,
      data: tinyData(model, 3, 8),
      checkpoints: { directory, resume: true },
    });
    await resumed.train();
    expect(await trainedValues(resumed)).toEqual(whole.weights);
  });

  it.each([
    {
      name: "SAFE with LoRA",
      adapter: lora({ rank: 2 }),
      policy: () => safe({ every: 1, maxWarmup: 1, targetFreezeFraction: 0.6, rampEnd: 2 }),
    },
    { name: "AFLoRA", adapter: aflora({ rank: 2 }), policy: () => afloraFreezing({ initialEpochs: 0 }) },
    { name: "(IA)3 merged as it freezes", adapter: ia3(), policy: () => fixed([{ beforeStep: 2, tensors: ENCODER }]) },
  ])("with $name saves an adapter and a merged model that write the same texts", async ({ adapter, policy, name }) => {
    using model = await open(family);
    using trainer = await Trainer.create({
      model,
      adapter,
      policy: policy(),
      data: tinyData(model, 4, 8),
      steps: 6,
      optimizer: { learningRate: 0.02 },
    });
    const { freezes } = await trainer.train();
    expect(freezes.length, "freezes").toBeGreaterThan(0);
    const [own, merged] = [memoryDirectory("adapter"), memoryDirectory("merged")];
    await saveAdapter(own, trainer);
    await saveMerged(merged, trainer);
    const options = { maxNewTokens: 8, beams: 2 };
    const prompts = [
      [5, 9, 12, 1],
      [7, 3, 30, 22, 11, 41, 6],
    ];
    const expected = await trainer.generate(prompts, options);
    trainer.dispose();
    const weights = await loadAdapter(own, model);
    expect(await generate(model, prompts, { ...options, weights }), name).toEqual(expected);
    using loaded = await loadModel(engine, merged);
    const texts = await generate(loaded, prompts, options);
    expect(texts.map(({ ids }) => ids)).toEqual(expected.map(({ ids }) => ids));
  });
});

it.each(["meft", "prefix_tuning"] as const)("%s does not fit an encoder-decoder", async (kind) => {
  using model = await open("t5");
  const error = await failure(Trainer.create({ model, adapter: makeAdapter({ kind }), data: tinyData(model) }));
  expect(error).toBeInstanceOf(ConfigError);
});

it("the spelling of a configuration before transformers 5 loads to the same logits, and the output table decides", async () => {
  const folder = await openDirectory("test/golden/flan-t5-lora");
  const files = memoryDirectory("published");
  await files.write("config.json", await folder.read("config_published.json"));
  await files.write("model.safetensors", await folder.read("model.safetensors"));
  const write = async (directory: typeof folder) => {
    using model = await loadModel(engine, directory);
    expect(model.weights.has("lm_head.weight")).toBe(true);
    return await generate(model, [[4, 8, 15, 16, 23, 42]], { maxNewTokens: 6, endIds: [] });
  };
  expect(await write(files)).toEqual(await write(folder));
});
