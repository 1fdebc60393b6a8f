import { afterAll, describe, expect, it } from "vitest";
import {
  adapterDrop,
  afloraFreezing,
  bitfit,
  fixed,
  freezeToFit,
  initialiseModel,
  loraPrune,
  never,
  safe,
  sparseAdapter,
  Trainer,
  upperLayers,
} from "safetape";
import { ConfigError, MemoryBudgetError, sumBytes } from "safetape/engine";
import { Batches, memoryDirectory } from "safetape/data";
import { ADAPTER_KINDS, makeAdapter, POLICY_NAMES, resting } from "safetape/analysis";
import type { Policy, TrainerOptions } from "safetape";
import { useEngine } from "../support/engine";
import { expectToKeepBudget } from "../support/budget";
import { failure } from "../support/failure";
import { tiny, tinyData, tinySamples } from "../support/tiny";

const engine = await useEngine();
const model = await initialiseModel(engine, tiny.bert());
afterAll(() => model.dispose());

const STEPS = 3;
/** Options of an adapter kind where its defaults do not fit the tiny model. */
const ADAPTERS: Readonly<Record<string, Record<string, unknown>>> = {
  adalora: { initialRank: 4, targetRank: 2, warmupSteps: 1, finalSteps: 1, every: 1 },
  prompt: { tokens: 4 },
  p_tuning: { tokens: 4 },
  prefix_tuning: { tokens: 4 },
  vera: { rank: 4 },
};
/** Every policy; `bytes` is what the run takes without any. */
const POLICIES: Readonly<Record<string, (bytes: number) => Policy>> = {
  never,
  safe: () => safe({ every: 1, maxWarmup: 1, targetFreezeFraction: 0.6, rampEnd: 2 }),
  aflora: () => afloraFreezing({ initialEpochs: 0, finalShare: 0.5, tensors: /layer\.\d/ }),
  upper_layers: () => upperLayers(1),
  adapter_drop: () => adapterDrop({ seed: 3 }),
  resting: () => resting({ every: 2 }),
  sparse_adapter: () => sparseAdapter({ keep: 0.5 }),
  // Half of a layer's heads are cut out after the second step.
  lora_prune: () => loraPrune({ every: 1, warmupShare: 0, finalShare: 0, ratio: 0.9 }),
  freeze_to_fit: (bytes) => freezeToFit({ bytes: bytes - 64, atStep: 2 }),
  fixed: () =>
    fixed([
      { beforeStep: 1, tensors: ["layer.1.attention.self.query", "layer.2.output"] },
      { beforeStep: 2, tensors: ["layer.0."] },
      { beforeStep: 2, tensors: ["value"] },
    ]),
};
type Modes = Readonly<Record<string, Partial<TrainerOptions>>>;
const MODES: Modes = {
  "complete batches": {},
  "micro-batches and recomputation": { memory: { microBatch: 2, recompute: "layers" } },
  "merging on freeze": { mergeOnFreeze: true },
};
/** Whether all modes are tried with all adapters, as in `npm run test:budgets`. */
const isLong = process.env["SAFETAPE_ALL_BUDGETS"] !== undefined;
/** Further ways to run, tried with a few adapters only, so that the matrix takes a minute or two. */
const FURTHER_MODES: Modes = {
  "accumulation and recomputed feed-forwards": { accumulate: 2, memory: { recompute: "mlp" } },
  "the micro-batch that fits": { memory: { microBatch: "fit" } },
  "a prefix cache": { prefixCache: true, dropout: false },
};
const WITH_FURTHER_MODES: readonly string[] = isLong ? ["lora", "vera", "prefix_tuning"] : ["lora"];

/** The ways in which an adapter is tried with a policy: the further ones with every third policy each, but in `npm run test:budgets`. */
function modesOf(kind: string, policy: string): Modes {
  if (WITH_FURTHER_MODES.includes(kind)) {
    const turn = Object.keys(POLICIES).indexOf(policy);
    const further = Object.entries(FURTHER_MODES);
    return { ...MODES, ...Object.fromEntries(further.filter((_, i) => isLong || turn % further.length === i)) };
  }
  const [first] = Object.entries(MODES);
  return isLong ? MODES : Object.fromEntries([first!]);
}

/** Kinds that have nothing in the layers, but virtual tokens before the texts. */
const PROMPTS: readonly string[] = ["prompt", "p_tuning"];

/** Kinds whose layers do not simply follow each other. */
const TWO_STREAMS: readonly string[] = ["meft"];

/** Why a trainer refuses a combination; undefined for those that run. */
function refusal(adapter: string, policy: string, { mergeOnFreeze, prefixCache }: Partial<TrainerOptions>) {
  const comparesLayers = ["safe", "freeze_to_fit"].includes(policy);
  if (TWO_STREAMS.includes(adapter) && policy === "adapter_drop") return /part of how layers follow/;
  if (adapter !== "lora" && policy === "lora_prune") return /needs the gradients of LoRA/;
  if (adapter === "adalora" && policy === "aflora") return /both collect statistics/;
  if (mergeOnFreeze && !["lora", "dora", "loha", "lokr", "oft"].includes(adapter)) return /is not merged/;
  if (mergeOnFreeze && policy === "lora_prune") return /masks what a LoRA is merged into/;
  if (mergeOnFreeze && policy === "adapter_drop") return /that were merged/;
  if (mergeOnFreeze && policy === "resting") return /freezes nothing/;
  if (adapter === "full" && comparesLayers) return /no original model to compare with/;
  if (PROMPTS.includes(adapter) && comparesLayers) return /no counterpart to compare with/;
  if (PROMPTS.includes(adapter) && ["aflora", "fixed", "upper_layers"].includes(policy)) return /has nothing to freeze/;
  if (adapter === "prefix_tuning" && policy === "aflora") return /has nothing to freeze/;
  if (prefixCache && policy === "lora_prune") return /changes the base model/;
  if (prefixCache && ["adapter_drop", "resting"].includes(policy)) return /other layers/;
  if (prefixCache && PROMPTS.includes(adapter)) return /virtual tokens/;
  return undefined;
}

function optionsOf(kind: string, policy: string, mode: Partial<TrainerOptions>): TrainerOptions {
  const adapter = makeAdapter({ kind, ...ADAPTERS[kind] });
  // SAFE says what it did not freeze in so short a run.
  const warn = (): void => undefined;
  return {
    model,
    adapter,
    data: tinyData(model),
    steps: STEPS,
    seed: 5,
    warn,
    ...mode,
    policy: POLICIES[policy]!(1e9),
  };
}

const withBudget = (options: TrainerOptions, budget: number): TrainerOptions => ({
  ...options,
  memory: { ...options.memory, budget },
});

/** Bytes of a run that freezes nothing, between steps. */
async function bytesOfPlainRun(options: TrainerOptions): Promise<number> {
  using trainer = await Trainer.create({ ...withBudget(options, 1e9), policy: never() });
  return sumBytes(trainer.predictedBytes());
}

it("covers every adapter and every policy", () => {
  expect(Object.keys(POLICIES).sort()).toEqual([...POLICY_NAMES].sort());
});

/** The policies that an adapter is tried with: all with LoRA, else another one for each kind. */
function policiesOf(kind: string): readonly string[] {
  const names = Object.keys(POLICIES);
  const other = names[ADAPTER_KINDS.indexOf(kind) % names.length];
  return isLong || kind === "lora" ? names : names.filter((name) => name === other);
}

describe.each(ADAPTER_KINDS)("%s", (kind) => {
  describe.each(policiesOf(kind))("with %s", (name) => {
    it.each(Object.entries(modesOf(kind, name)))("and %s keeps to the budget that it asks for", async (_, mode) => {
      const reason = refusal(kind, name, mode);
      const given = optionsOf(kind, name, mode);
      if (reason) {
        const error = await failure(Trainer.create(withBudget(given, 1e9)), ConfigError);
        expect(error.message).toMatch(reason);
        return;
      }
      const policy = POLICIES[name]!(name === "freeze_to_fit" ? await bytesOfPlainRun(given) : 0);
      await expectToKeepBudget({ ...given, policy });
    });
  });
});

describe("SAFE's other measures keep to the budget", () => {
  const schedule = { every: 1, maxWarmup: 1, targetFreezeFraction: 0.6, rampEnd: 2 } as const;
  it.each<[string, string, Policy, Partial<TrainerOptions>?]>([
    ["own", "lora", safe({ ...schedule, reference: "own" })],
    ["own", "bitfit", safe({ ...schedule, reference: "own" })],
    ["original, on batches of two shapes", "lora", safe(schedule), { probe: probeOfTwoShapes() }],
    ["gradient", "lora", safe({ ...schedule, measure: "gradient" })],
    [
      "gradient",
      "full",
      safe({ ...schedule, measure: "gradient" }),
      { memory: { microBatch: 2, recompute: "layers" } },
    ],
  ])("%s with %s", async (_, kind, policy, more = {}) => {
    await expectToKeepBudget({ ...optionsOf(kind, "never", more), policy });
  });

  it("and refuse adapters that they cannot score", async () => {
    const own = { policy: safe({ reference: "own" }) };
    const refused = (kind: string, options: Partial<TrainerOptions>) =>
      failure(Trainer.create({ ...optionsOf(kind, "never", {}), ...options }), ConfigError);
    expect((await refused("prompt", own)).message).toMatch(/has no adapters in the layers/);
    expect((await refused("full", own)).message).toMatch(/no original model/);
    const sensitive = { policy: safe({ measure: "gradient" }) };
    expect((await refused("prompt", sensitive)).message).toMatch(/nothing to freeze/);
    expect((await refused("adalora", sensitive)).message).toMatch(/both collect/);
  });
});

/** Batches of 4 x 8 and 4 x 16 tokens. */
function probeOfTwoShapes() {
  const samples = [...tinySamples(4, { longest: 8 }), ...tinySamples(4, { longest: 14, seed: 2 })];
  const data = new Batches(samples, { size: 4, maxLength: 16, multiple: 8, shuffle: false });
  return [data.next(), data.next()];
}

describe("a freeze after which the steps' plans would need more memory", () => {
  /** Fewer live biases, but buffers that are packed less well. */
  const FROZEN = [
    "layer.0.attention.self.key.bias",
    "layer.0.attention.output.dense.bias",
    "layer.0.attention.output.LayerNorm.bias",
    "layer.0.output.dense.bias",
    "layer.0.output.LayerNorm.bias",
    "layer.1.attention.self.value.bias",
    "layer.1.attention.output.dense.bias",
    "layer.2.attention.self.query.bias",
    "layer.2.attention.output.dense.bias",
    "layer.2.attention.output.LayerNorm.bias",
    "layer.2.output.LayerNorm.bias",
  ];
  const options = (more: Partial<TrainerOptions> = {}): TrainerOptions => {
    const policy = fixed([{ beforeStep: 2, tensors: FROZEN }]);
    return { model, adapter: bitfit(), data: tinyData(model), steps: 4, seed: 5, policy, ...more };
  };

  it("needs more where no budget forbids it", async () => {
    using trainer = await Trainer.create(options());
    const before = sumBytes(trainer.predictedBytes());
    await trainer.train();
    expect(sumBytes(trainer.predictedBytes())).toBeGreaterThan(before);
  });

  it("keeps the plans and the frozen tensors' gradients within a budget, also in a resumed run", async () => {
    const { neededBytes } = await failure(Trainer.create(options({ memory: { budget: 1 } })), MemoryBudgetError);
    const directory = memoryDirectory("checkpoints");
    const memory = { budget: neededBytes };
    engine.ledger.resetPeak();
    using trainer = await Trainer.create(options({ memory, checkpoints: { directory, every: 3 } }));
    const { losses } = await trainer.train();
    const { state } = trainer;
    expect(state.frozen).toHaveLength(FROZEN.length);
    expect(state.withGradient.size).toBe(state.live.size + FROZEN.length);
    expect(engine.ledger.live).toEqual(trainer.predictedBytes());
    expect(engine.ledger.peakBytes).toBeLessThanOrEqual(neededBytes);
    const tensors = await trainer.snapshot();
    trainer.dispose();

    await directory.remove?.("checkpoint-00000004.safetensors");
    using resumed = await Trainer.create(options({ memory, checkpoints: { resume: directory } }));
    expect((await resumed.train()).losses).toEqual(losses);
    expect(await resumed.snapshot()).toEqual(tensors);
    expect(engine.ledger.peakBytes).toBeLessThanOrEqual(neededBytes);

    // Nothing is left to differentiate below the head: these plans do fit.
    await resumed.freeze([...resumed.state.specs.keys()].filter((name) => !name.includes("classifier")));
    expect(resumed.state.withGradient.size).toBe(resumed.state.live.size);
    expect(engine.ledger.live).toEqual(resumed.predictedBytes());
  });
});
