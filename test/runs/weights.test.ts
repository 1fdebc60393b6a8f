import { describe, expect, it } from "vitest";
import { full, generate, initialiseModel, loadModel, lora, loraPrune, saveModel, Trainer } from "safetape";
import { memoryDirectory } from "safetape/data";
import { DtypeError, WEIGHT_FORMATS } from "safetape/engine";
import type { LoadedModel, TrainerOptions } from "safetape";
import { useEngine } from "../support/engine";
import { failure } from "../support/failure";
import { layerCount, ODD_SIZES, tiny, tinyData } from "../support/tiny";
import { some } from "../support/long";

const SIZES = { ...ODD_SIZES, ...layerCount(2) };
const PACKED = WEIGHT_FORMATS.filter((format) => format !== "f32");

const engine = await useEngine();

function trainerOptions(model: LoadedModel, changes: Partial<TrainerOptions> = {}): TrainerOptions {
  const adapter = lora({ rank: 2, dropout: 0.1, targets: "all-linear" });
  const optimizer = { learningRate: 1e-2 };
  return { model, adapter, data: tinyData(model), steps: 3, optimizer, seed: 4, ...changes };
}

async function train(model: LoadedModel, changes: Partial<TrainerOptions> = {}): Promise<number[]> {
  using trainer = await Trainer.create(trainerOptions(model, changes));
  const losses: number[] = [];
  for await (const { loss, bytes } of trainer.steps()) {
    expect(bytes, "ledger against plan").toEqual(trainer.predictedBytes());
    losses.push(loss);
  }
  return losses;
}

describe.each(some(["bert", "gpt2", "llama"] as const, 2))("%s", (family) => {
  const config = tiny[family](SIZES);

  it.each(PACKED)("in %s trains as the f32 model with the values of its packed weights", async (weights) => {
    const files = memoryDirectory("model");
    let losses: number[];
    let packedBytes: number;
    {
      using packed = await initialiseModel(engine, config, { weights });
      packedBytes = engine.ledger.liveBytes;
      await saveModel(files, packed);
      losses = await train(packed);
      expect(await train(packed, { memory: { recompute: "layers" } }), "losses with recomputation").toEqual(losses);
    }
    using unpacked = await loadModel(engine, files);
    expect(packedBytes).toBeLessThan(0.75 * engine.ledger.liveBytes);
    const expected = await train(unpacked);
    losses.forEach((loss, i) => expect(loss, `loss of step ${i + 1}`).toBeCloseTo(expected[i]!, 5));
  });

  it.each(PACKED)("is loaded from a checkpoint into %s, except norms and biases", async (weights) => {
    const files = memoryDirectory("model");
    {
      using model = await initialiseModel(engine, config);
      await saveModel(files, model);
    }
    using loaded = await loadModel(engine, files, { weights });
    const formats = new Set([...loaded.weights.values()].map(({ dtype }) => dtype));
    expect(formats.has(weights)).toBe(true);
    expect(formats.has("f32"), "norms and biases").toBe(true);
  });
});

it("a model with packed weights generates", async () => {
  using model = await initialiseModel(engine, tiny.gpt2(SIZES), { weights: "bf16" });
  const [text] = await generate(model, [[3, 4, 5]], { maxNewTokens: 6, endIds: [] });
  expect(text?.ids).toHaveLength(6);
});

describe("packed weights", () => {
  it("cannot be trained, and the refusal takes no memory", async () => {
    using model = await initialiseModel(engine, tiny.bert(SIZES), { weights: "int8" });
    const before = engine.ledger.liveBytes;
    const error = await failure(Trainer.create(trainerOptions(model, { adapter: full() })));
    expect(error.fact).toMatch(/trains .* which is stored as/);
    expect(engine.ledger.liveBytes).toBe(before);
  });

  it("cannot be pruned by LoRAPrune", async () => {
    using model = await initialiseModel(engine, tiny.bert(SIZES), { weights: "nf4" });
    const error = await failure(Trainer.create(trainerOptions(model, { policy: loraPrune() })));
    expect(error.fact).toMatch(/reads the weights as f32/);
  });
});

it("a weight that its format would round to infinity is refused by name, and one that it rounds to its largest number is not", async () => {
  const name = "bert.encoder.layer.1.intermediate.dense.weight";
  const files = memoryDirectory("model");
  const write = async (value: number): Promise<void> => {
    using model = await initialiseModel(engine, tiny.bert(SIZES));
    const weight = model.weights.get(name)!;
    const data = await weight.read();
    data[7] = value;
    weight.write(data);
    await saveModel(files, model);
  };
  for (const [weights, held, lost] of [
    ["f16", -65519, -65520],
    ["bf16", 3.395e38, 3.3962e38],
  ] as const) {
    await write(lost);
    const error = await failure(loadModel(engine, files, { weights }), DtypeError);
    expect(error.fact).toMatch(/layer\.1\.intermediate.* as its element 7, which b?f16 cannot hold/);
    expect(engine.ledger.liveBytes).toBe(0);
    await write(held);
    using model = await loadModel(engine, files, { weights });
    const read = (await model.weights.get(name)!.read())[7]!;
    expect(Math.abs(read / held - 1)).toBeLessThan(0.005);
  }
  using int8 = await loadModel(engine, files, { weights: "int8" });
  expect((await int8.weights.get(name)!.read())[7]).toBeCloseTo(Math.fround(3.395e38), -33);
});

it.each([Number.NaN, Infinity])("a checkpoint with %f in a weight is refused, and takes no memory", async (value) => {
  const files = memoryDirectory("model");
  {
    using model = await initialiseModel(engine, tiny.bert(SIZES));
    const weight = model.weights.get("bert.encoder.layer.1.intermediate.dense.weight");
    const data = await weight!.read();
    data[5] = value;
    weight?.write(data);
    await saveModel(files, model);
  }
  for (const weights of ["f32", "nf4"] as const) {
    const error = await failure(loadModel(engine, files, { weights }));
    expect(error.fact).toMatch(/layer\.1\.intermediate.* as its element 5/);
    expect(engine.ledger.liveBytes).toBe(0);
  }
});
