import { describe, expect, it } from "vitest";
import {
  adalora,
  adapterDrop,
  aflora,
  afloraFreezing,
  bitfit,
  dora,
  fixed,
  full,
  houlsby,
  ia3,
  initialiseModel,
  lora,
  loraPrune,
  meft,
  freezeToFit,
  never,
  pfeiffer,
  promptTuning,
  safe,
  saveAdapter,
  sora,
  sparseAdapter,
  Trainer,
  upperLayers,
  vera,
} from "safetape";
import { lnTuning, loha, lokr, oft, prefixTuning, pTuning, resting } from "safetape/analysis";
import { memoryDirectory } from "safetape/data";
import type { Adapter, Policy } from "safetape";
import { useEngine } from "../support/engine";
import { layerCount, tiny, tinyData } from "../support/tiny";
import { some } from "../support/long";

const engine = await useEngine();
const STEPS = 8;

interface Method {
  readonly adapter: Adapter;
  readonly policy: Policy;
}

/** Every policy and every adapter at least once, each made by its function. */
const METHODS: Readonly<Record<string, () => Method>> = {
  "LoRA, SAFE": () => ({
    adapter: lora({ rank: 2 }),
    policy: safe({ every: 1, maxWarmup: 3, targetFreezeFraction: 0.6 }),
  }),
  "AFLoRA with its freezing": () => ({
    adapter: aflora({ rank: 2, matrices: "both" }),
    policy: afloraFreezing({ initialEpochs: 0, finalShare: 0.2 }),
  }),
  "AFLoRA with its freezing as published": () => ({
    adapter: aflora({ rank: 2, matrices: "both" }),
    policy: afloraFreezing({ mode: "published_code", initialEpochs: 0, finalShare: 0.4, every: 2 }),
  }),
  "AdaLoRA, nothing frozen": () => ({
    adapter: adalora({ initialRank: 4, targetRank: 2, finalSteps: 2 }),
    policy: never(),
  }),
  "SoRA, upper layers": () => ({ adapter: sora({ rank: 3, threshold: 0.01 }), policy: upperLayers(1) }),
  "LoRA, freezing to fit": () => ({ adapter: lora({ rank: 2 }), policy: freezeToFit({ bytes: 1e5, atStep: 2 }) }),
  "LoRA, AdapterDrop": () => ({ adapter: lora({ rank: 2 }), policy: adapterDrop({ most: 1, seed: 2 }) }),
  "BitFit, resting": () => ({ adapter: bitfit(), policy: resting({ every: 2 }) }),
  "Houlsby, SparseAdapter": () => ({ adapter: houlsby({ size: 4 }), policy: sparseAdapter({ keep: 0.5 }) }),
  "LoRA, LoRAPrune": () => ({
    adapter: lora({ rank: 2, targets: "all-linear" }),
    policy: loraPrune({ every: 2, warmupShare: 0.2, ratio: 0.9 }),
  }),
  "VeRA, a fixed list": () => ({
    adapter: vera({ rank: 4 }),
    policy: fixed([{ beforeStep: 2, tensors: ["layer.0."] }]),
  }),
  "DoRA, a fixed list": () => ({
    adapter: dora({ rank: 2 }),
    policy: fixed([{ beforeStep: 2, tensors: ["layer.0."] }]),
  }),
  "(IA)3": () => ({ adapter: ia3(), policy: never() }),
  "LN tuning": () => ({ adapter: lnTuning(), policy: never() }),
  LoHa: () => ({ adapter: loha({ rank: 2, rankDropout: 0.2, moduleDropout: 0.2 }), policy: upperLayers(1) }),
  LoKr: () => ({ adapter: lokr({ rank: 1, rankDropout: 0.2 }), policy: upperLayers(1) }),
  OFT: () => ({ adapter: oft({ blockSize: 4, eps: 0.05 }), policy: upperLayers(1) }),
  BitFit: () => ({ adapter: bitfit(), policy: never() }),
  Pfeiffer: () => ({ adapter: pfeiffer({ size: 4 }), policy: never() }),
  "MEFT, SAFE": () => ({
    adapter: meft({ size: 4 }),
    policy: safe({ every: 1, maxWarmup: 3, targetFreezeFraction: 0.6 }),
  }),
  "prompt tuning": () => ({ adapter: promptTuning({ tokens: 3 }), policy: never() }),
  "P-tuning": () => ({ adapter: pTuning({ tokens: 3 }), policy: never() }),
  "prefix tuning, SAFE": () => ({
    adapter: prefixTuning({ tokens: 3 }),
    policy: safe({ every: 1, maxWarmup: 3, targetFreezeFraction: 0.6 }),
  }),
  "full tuning": () => ({ adapter: full(), policy: never() }),
};

/** Policies that freeze something in these runs. */
const FREEZING = ["safe", "aflora", "upper_layers", "freeze_to_fit", "fixed"];

/** A run with a model of its own; bytes of a freeze are left out, since runs share the engine's ledger. */
class Run implements Disposable {
  private constructor(private readonly trainer: Trainer) {}

  static async create(method: Method): Promise<Run> {
    const model = await initialiseModel(engine, { ...tiny.bert(layerCount(2)), initializer_range: 0.2 });
    const optimizer = { learningRate: 1e-2 };
    const data = tinyData(model, 3, 8);
    return new Run(await Trainer.create({ ...method, model, data, steps: STEPS, seed: 3, optimizer }));
  }

  async train(): Promise<void> {
    await this.trainer.train();
  }

  get steps() {
    return this.trainer.steps();
  }

  async outcome() {
    const { losses, freezes } = this.trainer.history;
    const { adapter } = this.trainer.options;
    const hasFile = !adapter.trainsInPlace;
    const directory = memoryDirectory("adapter");
    if (hasFile) await saveAdapter(directory, this.trainer);
    return {
      losses: [...losses],
      freezes: freezes.map(({ step, tensors, layers, returned }) => ({ step, tensors, layers, saved: returned.saved })),
      tensors: await this.trainer.snapshot(),
      policy: this.trainer.policyRecord(),
      config: hasFile ? await directory.read("adapter_config.json") : undefined,
    };
  }

  [Symbol.dispose](): void {
    const { model } = this.trainer.options;
    this.trainer.dispose();
    model.dispose();
  }
}

type Outcome = Awaited<ReturnType<Run["outcome"]>>;

async function oneAfterTheOther(methods: readonly Method[]): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  for (const method of methods) {
    using run = await Run.create(method);
    await run.train();
    outcomes.push(await run.outcome());
  }
  return outcomes;
}

async function atTheSameTime(method: Method): Promise<Outcome[]> {
  using first = await Run.create(method);
  using second = await Run.create(method);
  const steps = [first.steps, second.steps];
  for (let step = 0; step < STEPS; step++) for (const run of steps) await run.next();
  return [await first.outcome(), await second.outcome()];
}

describe("a policy and an adapter that two runs share", () => {
  it.each(some(Object.entries(METHODS), 3))("give what fresh ones give: %s", async (_, make) => {
    const [fresh] = await oneAfterTheOther([make()]);
    // A policy's record is plain JSON with its name.
    const { name, mode } = fresh!.policy as { name: string; mode?: string };
    // The published code's windows of ten steps are longer than these runs.
    const freezes = FREEZING.includes(name) && mode !== "published_code";
    expect(fresh!.freezes.length > 0, "something freezes").toBe(freezes);
    const shared = make();
    expect(await oneAfterTheOther([shared, shared]), "one after the other").toEqual([fresh, fresh]);
    expect(await atTheSameTime(shared), "at the same time").toEqual([fresh, fresh]);
  });
});
