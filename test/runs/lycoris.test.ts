import { describe, expect, it } from "vitest";
import { afloraFreezing, initialiseModel, lora, Trainer } from "safetape";
import { loha, lokr, oft } from "safetape/analysis";
import { Batches } from "safetape/data";
import { ConfigError } from "safetape/engine";
import type { Adapter, LoadedModel, MemoryOptions } from "safetape";
import { adapterFromConfig } from "../../src/adapter/kinds";
import { relativeError } from "../../src/base/relative-error";
import { Random } from "../../src/base/random";
import { elements } from "../../src/base/shape";
import type { PeftConfig } from "../../src/io/peft";
import { gradientName } from "../../src/train/tensors/names";
import { adapterLogits } from "../../scripts/interop-case";
import { useEngine } from "../support/engine";
import { failure } from "../support/failure";
import { readJson } from "../support/json";
import { layerCount, tiny, tinyData } from "../support/tiny";
import type { Config } from "../support/tiny";
import { some } from "../support/long";

interface Expected {
  readonly config: Config;
  readonly rows: readonly (readonly number[])[];
  readonly labels: readonly number[];
  readonly cases: Readonly<
    Record<
      string,
      {
        readonly config: PeftConfig;
        readonly loss: number;
        readonly logits: readonly number[];
        readonly tensors: Readonly<
          Record<
            string,
            {
              readonly shape: readonly number[];
              /** The largest magnitude of initial values. */
              readonly start: number;
              /** Norm, and product with sines. */
              readonly gradient: readonly [number, number];
            }
          >
        >;
      }
    >
  >;
}

const expected = readJson<Expected>("test/interop/lycoris.json");
const engine = await useEngine();
const random = new Random(3);

/** Values as test/interop/lycoris.py makes them. */
function sines(name: string, count: number): Float32Array {
  const phase = [...name].reduce((sum, letter) => sum + letter.charCodeAt(0), 0);
  const offset = name.endsWith("LayerNorm.weight") ? 1 : 0;
  const factor = name.endsWith("oft_R.weight") ? 0.1 : 0.4;
  return Float32Array.from({ length: count }, (_, i) => offset + factor * Math.sin(0.7 * i + phase));
}

async function model(): Promise<LoadedModel> {
  const loaded = await initialiseModel(engine, expected.config);
  for (const [name, tensor] of loaded.weights) tensor.write(sines(name, elements(tensor.shape)));
  return loaded;
}

const product = (a: Float32Array, b: Float32Array): number => a.reduce((sum, value, i) => sum + value * b[i]!, 0);
const norm = (a: Float32Array): number => Math.sqrt(product(a, a));

describe.each(Object.entries(expected.cases))("%s", (_, { config, loss, logits, tensors }) => {
  it("has PEFT's tensors, initial values, logits, loss and gradients", async () => {
    using loaded = await model();
    const adapter = await adapterFromConfig(config, "the case");
    const specs = adapter.tensors(loaded.model);
    const shapes = Object.entries(tensors).map(([name, { shape }]) => [name, shape] as const);
    expect(Object.fromEntries(specs.map(({ name, shape }) => [name, shape]))).toEqual(Object.fromEntries(shapes));

    for (const spec of specs) {
      const draws = Array.from({ length: 100 }, () => spec.initial(random)).flatMap((values) => [...values]);
      const { start } = tensors[spec.name]!;
      // Of uniform numbers, the squares have a third of the bound's square as their mean.
      const deviation = Math.sqrt(3 * (draws.reduce((sum, value) => sum + value ** 2, 0) / draws.length));
      expect(Math.max(...draws.map(Math.abs)), spec.name).toBeCloseTo(start, 1);
      expect(Math.abs(deviation - start), spec.name).toBeLessThanOrEqual(0.1 * start);
    }

    const samples = expected.rows.map((ids, i) => ({ ids: Int32Array.from(ids), label: expected.labels[i]! }));
    const batches = () => new Batches(samples, { size: 2, shuffle: false });
    const initial = new Map(
      specs.map(({ name, shape }) => [name, { shape, data: sines(name, elements(shape)) }] as const),
    );
    const own = await adapterLogits(loaded, adapter, initial, batches().next());
    expect(relativeError(own.data, Float32Array.from(logits)), "logits").toBeLessThan(1e-5);

    const data = batches();
    using trainer = await Trainer.create({ model: loaded, adapter, data, initial, dropout: false, steps: 1 });
    for await (const report of trainer.steps()) {
      expect(report.bytes, "ledger against plan").toEqual(report.planned);
      expect(report.loss).toBeCloseTo(loss, 5);
    }
    for (const [name, { gradient: reference }] of Object.entries(tensors)) {
      const [length, projection] = reference;
      const gradient = await trainer.state.tensor(gradientName(name)).read();
      const pattern = sines(`${name}.pattern`, gradient.length);
      const error = Math.abs(product(gradient, pattern) - projection) / (length * norm(pattern));
      expect(Math.abs(norm(gradient) / length - 1), `norm of d${name}`).toBeLessThan(1e-4);
      expect(error, `d${name}`).toBeLessThan(1e-4);
    }
  });
});

const ADAPTERS: Readonly<Record<string, () => Adapter>> = {
  LoHa: () => loha({ rank: 2, targets: "all-linear" }),
  LoKr: () => lokr({ rank: 1, targets: "all-linear" }),
  OFT: () => oft({ blockSize: 4, targets: "all-linear" }),
};

describe.each(some(Object.entries(ADAPTERS), 2))("%s", (_, make) => {
  it.each([
    ["bert", "f16"],
    ["gpt2", "nf4"],
    ["llama", "int8"],
  ] as const)("begins as %s is, and learns on weights in %s", async (family, weights) => {
    using loaded = await initialiseModel(engine, tiny[family]({ initializer_range: 0.2 }), { weights });
    const data = tinyData(loaded);
    const batch = data.next();
    const lossOf = async (adapter: Adapter): Promise<number> => {
      using trainer = await Trainer.create({ model: loaded, adapter, data: tinyData(loaded), steps: 1 });
      return (await trainer.evaluate([batch])).loss;
    };
    const before = await lossOf(make());
    expect(Math.abs(before / (await lossOf(lora({ rank: 1 }))) - 1)).toBeLessThan(1e-6);
    const optimizer = { learningRate: 1e-2 };
    const options = { model: loaded, adapter: make(), data: tinyData(loaded), steps: 6, optimizer };
    using trainer = await Trainer.create(options);
    for await (const { bytes } of trainer.steps()) expect(bytes).toEqual(trainer.predictedBytes());
    expect((await trainer.evaluate([batch])).loss).toBeLessThan(before);
  });

  it.each(["albert", "deberta-v2"] as const)("gives the same bits with recomputed layers on %s", async (family) => {
    const losses = async (memory: MemoryOptions): Promise<readonly number[]> => {
      using loaded = await initialiseModel(engine, tiny[family]({ ...layerCount(2), initializer_range: 0.2 }));
      const optimizer = { learningRate: 1e-2 };
      const data = tinyData(loaded);
      using trainer = await Trainer.create({ model: loaded, adapter: make(), data, steps: 4, optimizer, memory });
      for await (const { bytes } of trainer.steps()) expect(bytes).toEqual(trainer.predictedBytes());
      return [...trainer.history.losses];
    };
    expect(await losses({ recompute: "layers" })).toEqual(await losses({}));
  });
});

it("the policy of AFLoRA refuses what has none of its matrices", async () => {
  using loaded = await initialiseModel(engine, tiny.bert());
  for (const make of Object.values(ADAPTERS)) {
    const options = { model: loaded, adapter: make(), data: tinyData(loaded), policy: afloraFreezing(), steps: 1 };
    expect((await failure(Trainer.create(options), ConfigError)).message).toMatch(/aflora/i);
  }
});
