import { describe, expect, it } from "vitest";
import {
  adalora,
  adapterDrop,
  aflora,
  afloraFreezing,
  dora,
  fixed,
  full,
  initialiseModel,
  lora,
  loraPrune,
  promptTuning,
  safe,
  sora,
  sparseAdapter,
  Trainer,
} from "safetape";
import { loha, lokr, oft, prefixTuning, resting } from "safetape/analysis";
import { memoryDirectory } from "safetape/data";
import type { Directory, FreezeEvent, LoadedModel, TrainerOptions } from "safetape";
import { useEngine } from "../support/engine";
import { layerCount, tiny, tinyData } from "../support/tiny";
import type { Config, Family } from "../support/tiny";
import { some } from "../support/long";

const engine = await useEngine();

const STEPS = 7;
type Options = Omit<TrainerOptions, "model" | "data"> & { readonly family?: Family; readonly config?: Config };

interface Outcome {
  readonly losses: readonly number[];
  readonly freezes: readonly FreezeEvent[];
  /** Adapter, moments, statistics and masks. */
  readonly tensors: Readonly<Record<string, readonly number[]>>;
  readonly policy: unknown;
  /** Heads and neurons that are cut out. */
  readonly cut: NonNullable<Trainer["compaction"]>["counts"] | undefined;
}

async function outcome(trainer: Trainer): Promise<Outcome> {
  const tensors: Record<string, number[]> = {};
  for (const name of trainer.state.persistent.keys()) {
    tensors[name] = [...(await trainer.state.tensor(name).read())];
  }
  const { losses, freezes } = trainer.history;
  const { compaction } = trainer;
  return { losses: [...losses], freezes, tensors, policy: trainer.policyRecord(), cut: compaction?.counts };
}

/** Loads everything from scratch, as another process does. */
async function run<T>(
  makeOptions: () => Options,
  changes: Partial<TrainerOptions>,
  body: (trainer: Trainer) => Promise<T>,
) {
  const { family = "bert", config, ...options } = makeOptions();
  using model: LoadedModel = await initialiseModel(engine, tiny[family]({ ...layerCount(2), ...config }));
  const data = tinyData(model, 3, 8);
  using trainer = await Trainer.create({ model, data, steps: STEPS, seed: 3, ...options, ...changes });
  return await body(trainer);
}

const uninterrupted = (makeOptions: () => Options): Promise<Outcome> =>
  run(makeOptions, {}, async (trainer) => {
    await trainer.train();
    return outcome(trainer);
  });

/** Stops after these steps, and resumes as a new process does. */
async function interrupted(makeOptions: () => Options, stops: readonly number[]): Promise<Outcome> {
  const directory: Directory = memoryDirectory("run");
  const changes = { checkpoints: { directory, resume: true, every: 0 } };
  for (const stop of stops) {
    await run(makeOptions, changes, async (trainer) => {
      for await (const { step } of trainer.steps()) if (step === stop) break;
      await trainer.saveCheckpoint();
    });
  }
  return run(makeOptions, changes, async (trainer) => {
    expect(trainer.resumed?.step).toBe(stops.at(-1));
    const result = await trainer.train();
    expect(result.steps).toBe(STEPS);
    return outcome(trainer);
  });
}

const CASES: Readonly<Record<string, () => Options>> = {
  "dropout and accumulated batches of several lengths": () => ({
    adapter: lora({ rank: 2, dropout: 0.2 }),
    accumulate: 2,
    schedule: { type: "cosine", warmupSteps: 2 },
  }),
  "DoRA with dropout, of which a layer freezes": () => ({
    adapter: dora({ rank: 2, dropout: 0.2 }),
    policy: fixed([{ beforeStep: 4, tensors: ["layer.0."] }]),
  }),
  "LoHa with dropout, of which a layer freezes": () => ({
    adapter: loha({ rank: 2, rankDropout: 0.2, moduleDropout: 0.2 }),
    policy: fixed([{ beforeStep: 4, tensors: ["layer.0."] }]),
  }),
  "LoKr with dropout": () => ({ adapter: lokr({ rank: 1, rankDropout: 0.2, moduleDropout: 0.2 }), accumulate: 2 }),
  "OFT near the start": () => ({ adapter: oft({ blockSize: 4, eps: 0.02 }) }),
  "SAFE and batches in parts": () => ({
    adapter: lora({ rank: 2 }),
    policy: safe({ every: 1, maxWarmup: 3, targetFreezeFraction: 0.6 }),
    memory: { microBatch: 2 },
  }),
  AFLoRA: () => ({
    adapter: aflora({ rank: 2, matrices: "both" }),
    policy: afloraFreezing({ initialEpochs: 0, finalShare: 0.2 }),
  }),
  "AFLoRA as published": () => ({
    adapter: aflora({ rank: 2, matrices: "both" }),
    policy: afloraFreezing({ mode: "published_code", initialEpochs: 0, finalShare: 0.4, every: 2 }),
  }),
  "AFLoRA with a rank budget": () => ({
    adapter: aflora({ rank: 3, rankBudget: { targetRank: 2 } }),
    policy: afloraFreezing({ initialEpochs: 0, finalShare: 0.2 }),
  }),
  "AdaLoRA's budget": () => ({ adapter: adalora({ initialRank: 4, targetRank: 2, finalSteps: 2 }) }),
  "SoRA's gates": () => ({ adapter: sora({ rank: 3, threshold: 0.001 }) }),
  "merging, and a kept prefix": () => ({
    adapter: lora({ rank: 2, targets: "all-linear" }),
    dropout: false,
    prefixCache: true,
    mergeOnFreeze: true,
    policy: fixed([{ beforeStep: 2, tensors: ["layer.0."] }]),
  }),
  // Two heads and 128 neurons are cut after step 4, one and 64 more after step 6.
  "pruned structures": () => ({
    family: "gpt2",
    config: { n_head: 4, n_inner: 256 },
    adapter: lora({ rank: 2, dropout: 0.2, targets: "all-linear" }),
    policy: loraPrune({ every: 2, warmupShare: 0.2, ratio: 0.8 }),
  }),
  "pruned weights": () => ({ adapter: lora({ rank: 2 }), policy: sparseAdapter({ keep: 0.5 }) }),
  "dropped adapters": () => ({ adapter: lora({ rank: 2 }), policy: adapterDrop({ most: 1, seed: 2 }) }),
  "adapters that rest": () => ({ adapter: lora({ rank: 2, dropout: 0.2 }), policy: resting({ every: 2 }) }),
  "prefixes, and a kept one of layers": () => ({
    adapter: prefixTuning({ tokens: 3, projection: true }),
    dropout: false,
    prefixCache: true,
    policy: fixed([{ beforeStep: 2, tensors: ["prefix.embedding", "prefix.hidden", "layers.0."] }]),
  }),
  prompts: () => ({ adapter: promptTuning({ tokens: 3 }) }),
  "full tuning of images": () => ({ adapter: full(), family: "vit" }),
};

/** Policies that freeze something in these runs. */
const FREEZING = ["safe", "aflora", "fixed"];

describe("a run that is interrupted and resumed", () => {
  it.each(some(Object.entries(CASES), 2))("ends with the bits of an uninterrupted run: %s", async (_, makeOptions) => {
    const expected = await uninterrupted(makeOptions);
    expect(expected.losses).toHaveLength(STEPS);
    // Every policy records its name.
    const { name, mode } = expected.policy as { name: string; mode?: string };
    // The published code's windows of ten steps are longer than this run.
    const isFreezing = FREEZING.includes(name) && mode !== "published_code";
    expect(expected.freezes.length > 0, "whether something freezes").toBe(isFreezing);
    if (name === "lora_prune") expect(expected.cut).toMatchObject({ heads: 3, neurons: 192 });
    expect(await interrupted(makeOptions, [2, 5])).toEqual(expected);
  });
});
