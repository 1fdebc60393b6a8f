import { describe, expect, it } from "vitest";
import { createModel, dora, lora } from "../../src/index";
import { ConfigError } from "../../src/entry/engine";
import type { Adapter } from "../../src/index";
import { adapterFile } from "../../src/adapter/file";
import { adapterFromConfig } from "../../src/adapter/kinds";
import { makeAdapter } from "../../src/adapter/make";
import { plan } from "../../src/tape/plan";
import { trace } from "../../src/train/plans/trace";
import { failure } from "../support/failure";
import { evaluateTrace, randomTensors } from "../support/reference-trace";
import { layerCount, tiny } from "../support/tiny";

const SIZE = 2;
const LENGTH = 3;
const BATCH = {
  size: SIZE,
  rows: SIZE,
  length: LENGTH,
  inputIds: Int32Array.of(3, 4, 5, 6, 7, 8),
  attentionMask: new Int32Array(SIZE * LENGTH).fill(1),
  tokenTypeIds: new Int32Array(SIZE * LENGTH),
  labels: Int32Array.of(0, 1),
};

describe.each([
  ["bert", "bert.encoder.layer.0.attention.self.query", [16, 16]],
  ["gpt2", "transformer.h.0.attn.c_attn", [16, 48]],
] as const)("DoRA on %s", (family, module, [inputs, outputs]) => {
  const config = { ...tiny[family](layerCount(1)), architectures: [`${family}ForSequenceClassification`] };
  const model = createModel(family === "bert" ? tiny.bert(layerCount(1)) : { ...config, num_labels: 2 });
  const isTransposed = family === "gpt2";

  it.each([0, 0.25])("computes PEFT's formula with dropout %d", (dropout) => {
    const adapter = dora({ rank: 2, alpha: 3, dropout });
    const traced = trace({ model, adapter, batch: BATCH, isTraining: true });
    const nodes = traced.tape.nodes.filter(({ label }) => label === module);
    const only = (op: string): (typeof nodes)[number] => nodes.find((node) => node.op.name === op)!;
    const sum = only("lora_linear");
    const input = dropout > 0 ? only("dropout") : sum;
    const ids = [input.inputs["x"]!, sum.inputs["x"]!, nodes.at(-1)!.outputs["y"]!];
    const tensors = randomTensors(model, adapter);
    const values = ids.map((id) => traced.tape.values[id]!);
    const [x, dropped, y] = evaluateTrace(traced, model, BATCH, tensors, values);
    expect(x!.some((value, i) => value !== dropped![i])).toBe(dropout > 0);

    const data = (name: string): Float64Array => tensors.get(`${module}.${name}`)!.data;
    const [w, bias, m] = [data("weight"), data("bias"), data("lora_magnitude_vector")];
    const [a, b] = [data("lora_A.weight"), data("lora_B.weight")];
    for (let row = 0; row < SIZE * LENGTH; row++) {
      for (let o = 0; o < outputs; o++) {
        let [squares, base, baseOfDropped, update] = [0, 0, 0, 0];
        for (let i = 0; i < inputs; i++) {
          const weight = w[isTransposed ? i * outputs + o : o * inputs + i]!;
          const change = 1.5 * (b[2 * o]! * a[i]! + b[2 * o + 1]! * a[inputs + i]!);
          squares += (weight + change) ** 2;
          base += weight * x![row * inputs + i]!;
          baseOfDropped += weight * dropped![row * inputs + i]!;
          update += change * dropped![row * inputs + i]!;
        }
        const factor = m[o]! / Math.sqrt(squares);
        const expected = base + bias[o]! + (factor - 1) * baseOfDropped + factor * update;
        expect(y![row * outputs + o], `row ${row}, output ${o}`).toBeCloseTo(expected, 10);
      }
    }
  });

  it("names and shapes its tensors as PEFT does", async () => {
    const adapter = dora({ rank: 2 });
    const tensors = new Map(
      adapter.tensors(model).map(({ name, shape }) => [name, { shape, data: new Float32Array() }]),
    );
    const file = adapterFile(adapter, model, tensors);
    expect(file.tensors.get(`base_model.model.${module}.lora_magnitude_vector`)?.shape).toEqual([outputs]);
    expect(file.config).toMatchObject({ peft_type: "LORA", use_dora: true, fan_in_fan_out: isTransposed });
    expect(adapter.tensors(model)).toHaveLength(1.5 * lora({ rank: 2 }).tensors(model).length);
    const read = await adapterFromConfig(file.config, "the file");
    expect(read.kind).toBe("dora");
  });
});

it("makes nothing as large as a weight", () => {
  const width = 256;
  const model = createModel(tiny.bert({ ...layerCount(1), hidden_size: width }));
  const largest = (adapter: Adapter): number => {
    const { tape, loss } = trace({ model, adapter, batch: BATCH, isTraining: true, differentiable: true });
    const trainable = new Set(adapter.tensors(model).map(({ name }) => name));
    const { buffers } = plan(tape, { outputs: { loss }, loss, trainable });
    return Math.max(...buffers.map(({ bytes }) => bytes));
  };
  expect(largest(dora({ dropout: 0.1 }))).toBeLessThan(width * width);
});

describe("use_dora", () => {
  const model = createModel(tiny.bert());

  it.each(["aflora", "vera", "adalora", "sora", "loha", "lokr", "oft", "ia3"])(
    "is refused by name beside %s",
    async (kind) => {
      const config = makeAdapter({ kind }).peftConfig(model, 10);
      expect((await adapterFromConfig({ ...config, use_dora: false }, "it")).kind).toBe(kind);
      const error = await failure(adapterFromConfig({ ...config, use_dora: true }, "it"), ConfigError);
      expect(error.message).toMatch(/has use_dora: true, which peft_type \w+ does not combine with/);
    },
  );
});
