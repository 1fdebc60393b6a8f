import { expect, it } from "vitest";
import { full, initialiseModel, lora, Trainer } from "safetape";
import type { Adapter, LoadedModel, TrainerOptions } from "safetape";
import type { ReferenceTensor } from "../../src/op/declaration";
import { batchInputs, countedLabels } from "../../src/train/plans/inputs";
import { trace } from "../../src/train/plans/trace";
import { gradientName } from "../../src/train/tensors/names";
import type { Tape, Value } from "../../src/tape/tape";
import { withTests } from "../../src/testing/ops";
import { useEngine } from "../support/engine";
import { layerCount, tiny, tinyData } from "../support/tiny";

const engine = await useEngine();

const SIZES = { ...layerCount(1), hidden_size: 8, n_embd: 8, intermediate_size: 8, n_inner: 8 };
/** Post-norm, pre-norm and root-mean-square norms: a norm of each, from whose gradient others are made. */
const MODELS = [
  ["bert", tiny.bert(SIZES), "bert.encoder.layer.0.output.LayerNorm"],
  ["gpt2", tiny.gpt2(SIZES), "transformer.h.0.ln_2"],
  ["llama", tiny.llama({ ...SIZES, num_attention_heads: 2 }), "model.norm"],
] as const;

/** A tape's value in float64, in the ops' plain loops. */
function referenceValue({ nodes, values }: Tape, wanted: Value, find: (value: Value) => ReferenceTensor): number {
  const found = new Map<number, ReferenceTensor>();
  const tensor = (id: number): ReferenceTensor => found.get(id) ?? find(values[id]!);
  for (const { op, inputs, outputs, attributes } of nodes) {
    const slots = Object.entries(inputs).map(([slot, id]) => [slot, tensor(id)] as const);
    const results = withTests(op).reference!(Object.fromEntries(slots), attributes);
    for (const [slot, id] of Object.entries(outputs)) found.set(id, results[slot]!);
  }
  return tensor(wanted.id).data[0]!;
}

/** The loss of a trainer's next step as a function of its trained tensors, in float64. */
async function referenceLoss(loaded: LoadedModel, adapter: Adapter, trainer: Trainer) {
  const { model, weights } = loaded;
  const batch = tinyData(loaded, 2, 4).next();
  const { size, length } = batch;
  const { tape, loss } = trace({ model, adapter, batch: { size, length }, isTraining: false, differentiable: true });
  const inputs = batchInputs(model, batch, { labels: countedLabels(model, batch) });
  const tensors = new Map<string, Float64Array>();
  for (const [name, tensor] of weights) tensors.set(name, Float64Array.from(await tensor.read()));
  for (const [name, { data }] of await trainer.state.snapshot()) tensors.set(name, Float64Array.from(data));
  const find = ({ shape, origin }: Value): ReferenceTensor => {
    if (origin.kind === "node") throw new Error("A node's output is read before it is made.");
    const data = origin.kind === "parameter" ? tensors.get(origin.name) : inputs[origin.name];
    return { shape, data: Float64Array.from(data!) };
  };
  return { tensors, loss: () => referenceValue(tape, loss, find) };
}

/** The derivative by one element, from differences of fourth order. */
function derivative(values: Float64Array, index: number, loss: () => number): number {
  const [value, h] = [values[index]!, 1e-3];
  const at = (offset: number): number => {
    values[index] = value + offset;
    return loss();
  };
  const slope = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
  values[index] = value;
  return slope;
}

function options(model: LoadedModel, more: Partial<TrainerOptions> = {}): TrainerOptions {
  const batch = tinyData(model, 2, 4).next();
  return {
    model,
    adapter: full(),
    data: { perEpoch: 1, next: () => batch },
    steps: 4,
    dropout: false,
    optimizer: { learningRate: 1e-3, weightDecay: 0 },
    schedule: { type: "constant" },
    ...more,
  };
}

// A norm's gradients divide by its weight where they can: not by one that training leads through zero.
it.each(MODELS)("a norm of %s learns through zero", async (_, config, norm) => {
  using model = await initialiseModel(engine, config);
  // One weight is zero. AdamW's first step is as long as the learning rate: it brings about half of the others near zero.
  const start = Float32Array.of(0, -1e-3, 1e-3, -1e-3, 1e-3, -1e-3, 1e-3, -1e-3);
  model.weights.get(`${norm}.weight`)!.write(start);
  model.weights.get(`${norm}.bias`)?.write(new Float32Array(8).fill(0.5));
  const adapter = full();
  using trainer = await Trainer.create(options(model, { adapter }));
  expect(engine.ledger.live).toEqual(trainer.predictedBytes());
  for (let step = 0; step < 4; step++) {
    const { tensors, loss } = await referenceLoss(model, adapter, trainer);
    const weights = tensors.get(`${norm}.weight`)!;
    await trainer.steps().next();
    const gradient = await trainer.state.tensor(gradientName(`${norm}.weight`)).read();
    const expected = weights.map((_element, i) => derivative(weights, i, loss));
    const largest = Math.max(...expected.map(Math.abs));
    const errors = gradient.map((value, i) => Math.abs(value - expected[i]!) / largest);
    expect(Math.max(...errors), `worst error of step ${step + 1}`).toBeLessThan(1e-4);
  }
  const end = await trainer.state.tensor(`${norm}.weight`).read();
  expect(end.filter((value, i) => value * start[i]! < 0).length, "weights that went through zero").toBeGreaterThan(0);
});

it("a run after full tuning keeps the inputs of norms whose weights have come close to zero, and of no others", async () => {
  using model = await initialiseModel(engine, tiny.gpt2(SIZES));
  const keptByNorms = async (): Promise<string[]> => {
    using trainer = await Trainer.create(options(model, { adapter: lora({ targets: "all-linear" }) }));
    expect(engine.ledger.live).toEqual(trainer.predictedBytes());
    return [...model.fragileNorms];
  };
  expect(await keptByNorms()).toEqual([]);
  {
    using trainer = await Trainer.create(options(model));
    await trainer.train();
    trainer.state.write("transformer.h.0.ln_1.weight", new Float32Array(8).fill(1e-4));
  }
  expect(await keptByNorms()).toEqual(["transformer.h.0.ln_1"]);
});
