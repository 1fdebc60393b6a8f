import { expect, it } from "vitest";
import { bitfit, initialiseModel, lora, Trainer } from "safetape";
import type { Adapter } from "safetape";
import { Random } from "../../src/base/random";
import { elements } from "../../src/base/shape";
import type { ReferenceTensor } from "../../src/op/declaration";
import { gradientName } from "../../src/run/store";
import { countedLabels } from "../../src/train/plans/inputs";
import { trace } from "../../src/train/plans/trace";
import { useEngine } from "../support/engine";
import { evaluateTrace } from "../support/reference-trace";
import { layerCount, tiny, tinyData } from "../support/tiny";

const engine = await useEngine();
const ROOT = 1e-4;

it.each<[string, Adapter]>([
  ["BitFit", bitfit({ addBiases: true })],
  ["LoRA", lora({ rank: 2, addBiases: true, bias: "all" })],
])("gradients of added biases are those of the loss in float64: %s", async (_, adapter) => {
  using model = await initialiseModel(engine, tiny.llama({ ...layerCount(1), initializer_range: 0.3 }));
  const random = new Random(2);
  const initial = new Map(
    adapter.tensors(model.model).map(({ name, shape }) => {
      return [name, { shape, data: Float32Array.from({ length: elements(shape) }, () => random.normal() / 4) }];
    }),
  );
  using trainer = await Trainer.create({ model, adapter, initial, data: tinyData(model), steps: 1, dropout: false });
  await trainer.steps().next();

  const tensors = new Map<string, ReferenceTensor>();
  for (const [name, { shape, data }] of initial) tensors.set(name, { shape, data: Float64Array.from(data) });
  for (const [name, tensor] of model.weights) {
    tensors.set(name, { shape: tensor.shape, data: Float64Array.from(await tensor.read()) });
  }
  const batch = tinyData(model).next();
  const traced = trace({ model: model.model, adapter, batch, isTraining: true });
  const lossWith = (name: string, element: number, change: number): number => {
    const { shape, data } = tensors.get(name)!;
    const moved = Float64Array.from(data, (value, i) => (i === element ? value + change : value));
    const changed = new Map([...tensors, [name, { shape, data: moved }]]);
    return evaluateTrace(traced, model.model, batch, changed, [traced.loss])[0]![0]!;
  };
  const labels = countedLabels(model.model, batch);
  const biases = [...initial.keys()].filter((name) => name.endsWith(".bias"));
  expect(biases).toHaveLength(7);
  for (const name of biases) {
    const gradient = await trainer.state.tensor(gradientName(name)).read();
    for (const element of [0, 7]) {
      const difference = (lossWith(name, element, ROOT) - lossWith(name, element, -ROOT)) / (2 * ROOT);
      expect(gradient[element], `${name} ${element}`).toBeCloseTo(difference / labels, 5);
    }
  }
});
