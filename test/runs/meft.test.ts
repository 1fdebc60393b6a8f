import { describe, expect, it } from "vitest";
import {
  adapterDrop,
  fixed,
  initialiseModel,
  loadAdapter,
  lora,
  meft,
  safe,
  saveAdapter,
  saveMerged,
  Trainer,
} from "safetape";
import { ConfigError } from "safetape/engine";
import { Batches, memoryDirectory } from "safetape/data";
import { startDeviation } from "safetape/analysis";
import type { Adapter, LoadedModel, TrainerOptions } from "safetape";
import { gradientName } from "../../src/train/tensors/names";
import expected from "../interop/meft.json";
import { useEngine } from "../support/engine";
import { failure } from "../support/failure";
import { FAMILIES, layerCount, layerNames, tiny, tinyData } from "../support/tiny";
import { some } from "../support/long";

const engine = await useEngine();
const VARIANTS = [1, 2, 3] as const;

/** Gradients of the adapter's tensors in the first step, by name, and its loss. */
async function firstStep(options: Omit<TrainerOptions, "steps">) {
  using trainer = await Trainer.create({ ...options, steps: 1 });
  let loss = NaN;
  for await (const report of trainer.steps()) {
    expect(report.bytes, "ledger against plan").toEqual(report.planned);
    loss = report.loss;
  }
  const gradients = new Map<string, Float32Array>();
  for (const { name } of options.adapter.tensors(options.model.model)) {
    gradients.set(name, await trainer.state.tensor(gradientName(name)).read());
  }
  return { loss, gradients };
}

const product = (a: Float32Array, b: Float32Array): number => a.reduce((sum, value, i) => sum + value * b[i]!, 0);
const norm = (a: Float32Array): number => Math.sqrt(product(a, a));
const cosine = (a: Float32Array, b: Float32Array): number => product(a, b) / norm(a) / norm(b);

describe("MEFT against PyTorch, which keeps every activation", () => {
  /** Values as test/interop/meft.py makes them. */
  function sines(name: string, count: number): Float32Array {
    const phase = [...name].reduce((sum, letter) => sum + letter.charCodeAt(0), 0);
    const offset = name.endsWith("LayerNorm.weight") ? 1 : 0;
    return Float32Array.from({ length: count }, (_, i) => offset + 0.4 * Math.sin(0.7 * i + phase));
  }

  async function model(): Promise<LoadedModel> {
    const loaded = await initialiseModel(engine, expected.config);
    for (const [name, tensor] of loaded.weights) {
      tensor.write(
        sines(
          name,
          tensor.shape.reduce((a, b) => a * b, 1),
        ),
      );
    }
    return loaded;
  }

  it.each(VARIANTS)("has its loss, gradients and start deviation: variant %i", async (variant) => {
    using loaded = await model();
    const samples = expected.rows.map((ids, i) => ({ ids: Int32Array.from(ids), label: expected.labels[i]! }));
    const data = new Batches(samples, { size: 2, shuffle: false });
    const adapter = meft({ variant, size: expected.size });
    const initial = new Map(
      adapter.tensors(loaded.model).map(({ name, shape }) => {
        return [
          name,
          {
            data: sines(
              name,
              shape.reduce((a, b) => a * b, 1),
            ),
          },
        ];
      }),
    );
    const reference = expected.variants[variant];
    const deviation = await startDeviation({ model: loaded, adapter, initial }, data.next());
    expect(deviation / reference.startDeviation).toBeCloseTo(1, 4);

    const batches = new Batches(samples, { size: 2, shuffle: false });
    const { loss, gradients } = await firstStep({ model: loaded, adapter, data: batches, initial, dropout: false });
    expect(loss).toBeCloseTo(reference.loss, 5);
    expect([...gradients.keys()].sort()).toEqual(Object.keys(reference.gradients).sort());
    for (const [name, [length, projection]] of Object.entries(reference.gradients)) {
      const gradient = gradients.get(name)!;
      const pattern = sines(`${name}.pattern`, gradient.length);
      expect(Math.abs(norm(gradient) / length! - 1), `norm of d${name}`).toBeLessThan(1e-3);
      expect(Math.abs(product(gradient, pattern) - projection!) / (length! * norm(pattern)), `d${name}`).toBeLessThan(
        1e-3,
      );
    }
  });
});

describe("gradients through twelve rebuilt layers, with dropout", () => {
  /** The smallest cosine of an adapter tensor's gradient to that of `exact`. */
  async function worstCosine(exact: Adapter, adapter: Adapter): Promise<number> {
    using model = await initialiseModel(engine, { ...tiny.bert(layerCount(12)), initializer_range: 0.2 });
    const stored = await firstStep({ model, adapter: exact, data: tinyData(model), seed: 3 });
    const rebuilt = await firstStep({ model, adapter, data: tinyData(model), seed: 3 });
    expect(rebuilt.loss, "the same forward pass").toBe(stored.loss);
    return Math.min(...[...stored.gradients].map(([name, exact]) => cosine(exact, rebuilt.gradients.get(name)!)));
  }

  it.each(VARIANTS)("are exact with the default number of kept states: variant %i", async (variant) => {
    expect(await worstCosine(meft({ variant, stateEvery: 1 }), meft({ variant }))).toBeGreaterThan(0.9999);
  });

  it("are wrong where all states follow from the last one", async () => {
    expect(await worstCosine(meft({ stateEvery: 1 }), meft({ stateEvery: 12 }))).toBeLessThan(0.5);
  });
});

describe.each(some(FAMILIES, 2))("MEFT on %s", (family) => {
  it("trains with a freeze, and is the same after saving, loading and resuming", async () => {
    using model = await initialiseModel(engine, tiny[family]());
    const variant = VARIANTS[FAMILIES.indexOf(family) % 3]!;
    const checkpoints = memoryDirectory("checkpoints");
    const options = (): TrainerOptions => ({
      model,
      adapter: meft({ variant, size: 3, layers: [0, 1] }),
      policy: fixed([{ beforeStep: 2, tensors: layerNames(0) }]),
      data: tinyData(model),
      steps: 4,
      accumulate: 2,
      memory: { recompute: "layers" },
      seed: 4,
    });
    using trainer = await Trainer.create({ ...options(), checkpoints: { directory: checkpoints, every: 3 } });
    const losses: number[] = [];
    const state: number[] = [];
    const horizons: (number | undefined)[] = [];
    for await (const { loss, bytes, planned, horizon } of trainer.steps()) {
      losses.push(loss);
      horizons.push(horizon);
      state.push(bytes.state);
      expect(bytes, "ledger against plan").toEqual(planned);
    }
    expect(state.at(-1), "bytes of gradients and moments after the freeze").toBeLessThan(state[0]!);
    expect([horizons[0], horizons.at(-1)]).toEqual([0, 1]);
    const batch = tinyData(model).next();
    const { loss } = await trainer.evaluate([batch]);
    const tensors = await trainer.snapshot();
    const directory = memoryDirectory("adapter");
    await saveAdapter(directory, trainer);

    await checkpoints.remove?.("checkpoint-00000004.safetensors");
    using resumed = await Trainer.create({ ...options(), checkpoints: { resume: checkpoints } });
    expect((await resumed.train()).losses).toEqual(losses);
    expect(await resumed.snapshot()).toEqual(tensors);

    const loaded = await loadAdapter(directory, model);
    expect(loaded.adapter.kind).toBe("meft");
    using again = await Trainer.create({ ...options(), adapter: loaded.adapter, initial: loaded.tensors });
    expect((await again.evaluate([batch])).loss).toBe(loss);
  });
});

describe("MEFT in other uses", () => {
  it("generates with caches what it would generate from the complete text", async () => {
    using model = await initialiseModel(engine, { ...tiny.gpt2(), initializer_range: 0.3 });
    const adapter = meft({ variant: 3 });
    using trainer = await Trainer.create({ model, adapter, data: tinyData(model), steps: 1 });
    const ids = [5, 9, 3];
    const [all] = await trainer.generate([ids], { maxNewTokens: 6 });
    const [rest] = await trainer.generate([[...ids, ...all!.ids.slice(0, 3)]], { maxNewTokens: 3 });
    expect(rest!.ids).toEqual(all!.ids.slice(3));
  });

  it("starts from the model exactly with LoRA, and near it with MEFT", async () => {
    using model = await initialiseModel(engine, { ...tiny.bert(layerCount(6)), initializer_range: 0.2 });
    const deviation = (adapter: Adapter) => startDeviation({ model, adapter }, tinyData(model).next());
    expect(await deviation(lora({ rank: 2 }))).toBe(0);
    expect(await deviation(meft())).toBeGreaterThan(0.01);
  });

  it("is refused where its streams have no meaning", async () => {
    using model = await initialiseModel(engine, tiny.bert());
    const create = (more: Partial<TrainerOptions>) =>
      Trainer.create({ model, adapter: meft(), data: tinyData(model), steps: 1, ...more });
    const refusals: [Partial<TrainerOptions>, RegExp][] = [
      [{ prefixCache: true, dropout: false }, /prefixCache: meft carries other hidden states/],
      [{ policy: adapterDrop() }, /adapter_drop leaves adapters out/],
      [{ policy: safe({ reference: "own" }) }, /meft carries two streams/],
      [{ mergeOnFreeze: true }, /meft is not merged/],
    ];
    for (const [more, message] of refusals) {
      expect((await failure(create(more), ConfigError)).message).toMatch(message);
    }
    using trainer = await create({});
    const error = await failure(saveMerged(memoryDirectory("merged"), trainer), ConfigError);
    expect(error.message).toMatch(/meft adds modules to the network/);
  });
});
