import { lora, loraName } from "../../src/adapter/lora";
import { Random } from "../../src/base/random";
import { Batches } from "../../src/data/batches";
import type { Engine } from "../../src/engine";
import { readBuffer } from "../../src/gpu/readback";
import { initialiseModel } from "../../src/io/load-model";
import type { LoadedModel } from "../../src/io/load-model";
import { Trainer } from "../../src/train/trainer";
import { bertConfig } from "../support/model";
import type { Input, Workload } from "./workload";

/** Set to "bert-base" for steps of a BERT of 12 layers x 768, which takes peers too long on software adapters. */
export const STEP_VARIABLE = "SAFETAPE_BENCH_STEP";

const size =
  process.env[STEP_VARIABLE] === "bert-base"
    ? { layers: 12, width: 768, heads: 12 }
    : { layers: 4, width: 256, heads: 4 };

/** The workload: a BERT, of 4 layers x 256 by default, that classifies 8 texts of 128 tokens, with LoRA on query and value. */
export const STEP = { ...size, batch: 8, length: 128, classes: 2, eps: 1e-12, scale: 2 };

/** Adam's options, constant over the steps, in a form that suits all engines. */
export const STEP_ADAM = { learningRate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };

/** Number of steps whose losses are compared between the engines. */
export const COMPARED_STEPS = 3;

const RANK = 8;

/** Names of a projection's LoRA tensors A and B. */
export const adapterNames = (projection: string) => [loraName(projection, "A"), loraName(projection, "B")] as const;

export const encoderLayer = (index: number): string => `bert.encoder.layer.${index}`;

/** The model with fixed random weights, without dropout, so that losses can be compared. */
export function stepModel(engine: Engine): Promise<LoadedModel> {
  const noDropout = { hidden_dropout_prob: 0, attention_probs_dropout_prob: 0 };
  return initialiseModel(engine, { ...bertConfig(STEP.layers, STEP.width), ...noDropout });
}

/** A trainer whose batches are all the same. */
export function stepTrainer(model: LoadedModel): Promise<Trainer> {
  const { ids, labels } = batch();
  const samples = labels.map((label, i) => ({ ids: ids.slice(i * STEP.length, (i + 1) * STEP.length), label }));
  const { learningRate, beta1, beta2, epsilon: eps } = STEP_ADAM;
  return Trainer.create({
    model,
    adapter: lora({ rank: RANK, alpha: STEP.scale * RANK }),
    data: new Batches(samples, { size: STEP.batch, shuffle: false }),
    steps: 1e6,
    schedule: { type: "constant" },
    optimizer: { learningRate, betas: [beta1, beta2], eps },
  });
}

function batch(): { ids: Int32Array; labels: number[] } {
  const random = new Random(3);
  const ids = Int32Array.from({ length: STEP.batch * STEP.length }, () => 5 + random.below(900));
  return { ids, labels: Array.from({ length: STEP.batch }, (_, i) => i % STEP.classes) };
}

/** The workload of one LoRA training step: loss, gradients and Adam. The peers get this engine's weights. */
export async function stepWorkloads(engine: Engine): Promise<(() => Workload)[]> {
  using model = await stepModel(engine);
  const trainer = await stepTrainer(model);
  try {
    const inputs: Record<string, Input> = {};
    for (const [name, tensor] of model.weights) inputs[name] = { shape: tensor.shape, data: await tensor.read() };
    const learn = [...trainer.state.live.keys()];
    for (const [name, { shape }] of trainer.state.live) {
      inputs[name] = { shape, data: new Float32Array(await readBuffer(engine.device, trainer.state.lease(name))) };
    }
    const { ids, labels } = batch();
    const { value } = await trainer.steps().next();
    const peerInputs = {
      ...inputs,
      ids: { shape: [ids.length], data: ids },
      labels: { shape: [labels.length], data: Int32Array.from(labels) },
    };
    const name = `LoRA training step, ${STEP.layers} layers x ${STEP.width}, ${STEP.batch} x ${STEP.length}`;
    const workload = { name, family: "step", inputs, peerInputs, learn, attributes: {} } as const;
    return [() => ({ ...workload, flops: value?.flops ?? NaN, target: 4 })];
  } finally {
    trainer.dispose();
  }
}

/** Makes a runner from a function that takes a step and resolves with its loss. */
export function stepRunner(step: () => Promise<number>, dispose: () => void) {
  return {
    async run(): Promise<void> {
      await step();
    },
    async outputs(): Promise<Float32Array[]> {
      const losses = new Float32Array(COMPARED_STEPS);
      for (let i = 0; i < COMPARED_STEPS; i++) losses[i] = await step();
      return [losses];
    },
    dispose,
  };
}
