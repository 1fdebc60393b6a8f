import type { Dtype } from "../../src/base/dtype";
import type { Engine } from "../../src/engine";
import { attention } from "../../src/ops/attention";
import { crossEntropy } from "../../src/ops/cross_entropy";
import { layerNorm } from "../../src/ops/layer_norm";
import { linear } from "../../src/ops/linear";
import { loraLinear } from "../../src/ops/lora_linear";
import { Executor } from "../../src/run/executor";
import { gradientName } from "../../src/run/store";
import { LOSS_GRADIENT, plan } from "../../src/tape/plan";
import type { Plan } from "../../src/tape/plan";
import { Recorder } from "../../src/tape/tape";
import type { Value } from "../../src/tape/tape";
import type { Tensor, TensorData } from "../../src/tensor";
import { stepModel, stepRunner, stepTrainer } from "./step";
import type { BenchedEngine, Family, Runner, Workload } from "./workload";

type Values = Readonly<Record<string, Value>>;
type Attributes = Workload["attributes"];

/** Records each family as one op. */
const RECORD: Record<Family, (recorder: Recorder, values: Values, attributes: Attributes) => Value> = {
  product: (recorder, { x, w }) => recorder.apply(linear, { x: x!, w: w! }, { layout: "in_out" }),
  lora: (recorder, { x, w, a, b }, { scale = 1 }) => {
    const inputs = { x: x!, w: w!, a: a!, b: b! };
    return recorder.apply(loraLinear, inputs, { layout: "in_out", scale, dropout: 0, salt: 0 });
  },
  attention: (recorder, { q, k, v, mask, seed }, { heads = 1, scale = 1 }) => {
    const inputs = { q: q!, k: k!, v: v!, mask: mask!, seed: seed! };
    return recorder.apply(attention, inputs, { heads, kvHeads: heads, scale, dropout: 0, salt: 0 });
  },
  layer_norm: (recorder, { x, weight, bias }, { eps = 0 }) =>
    recorder.apply(layerNorm, { x: x!, weight: weight!, bias: bias! }, { eps, keep: "y" }),
  cross_entropy: (recorder, { x, labels, normalizer }) => {
    const inputs = { x: x!, labels: labels!, normalizer: normalizer! };
    return recorder.apply(crossEntropy, inputs, { ignored: -100, smoothing: 0 });
  },
};

/** This engine. A plan runs on tensors that stay on the GPU; only `dy`, the seed of the gradients, is uploaded in every run. */
export function safetape(engine: Engine): BenchedEngine {
  return {
    name: "safetape",
    sync: "queue.onSubmittedWorkDone",
    prepare: (workload) => {
      const { family } = workload;
      return family === "step" ? safetapeStep(engine) : prepare(engine, workload, RECORD[family]);
    },
  };
}

async function prepare(engine: Engine, workload: Workload, record: (typeof RECORD)[Family]): Promise<Runner> {
  const { inputs, learn, dy, attributes } = workload;
  const recorder = new Recorder();
  const parameters = Object.entries(inputs).map(([name, { shape, data }]) => {
    return [name, recorder.parameter(name, shape, dtypeOf(data))] as const;
  });
  const y = record(recorder, Object.fromEntries(parameters), attributes);
  const { limits } = engine.device;
  const backward = learn.length > 0 ? { loss: y, trainable: new Set(learn) } : {};
  // Without outputs nothing is read back; `effects` keeps the launches that no output needs.
  const timedPlan = plan(recorder, { outputs: {}, effects: true, ...backward, limits });
  const checkedPlan = plan(recorder, { outputs: { y }, ...backward, limits });
  const tensors = new Map<string, Tensor>();
  for (const [name, { shape, data }] of Object.entries(inputs)) tensors.set(name, engine.tensor(data, shape));
  for (const [name, { shape }] of timedPlan.gradients) {
    const length = shape.reduce((a, b) => a * b, 1);
    tensors.set(gradientName(name), engine.tensor(new Float32Array(length), shape));
  }
  const store = { lease: (name: string) => tensors.get(name)!.lease };
  const executor = new Executor(engine.device);
  const seed = dy ? { [LOSS_GRADIENT]: dy.data } : {};
  const runPlan = (planned: Plan): Promise<ReadonlyMap<string, Float32Array>> => executor.run(planned, store, seed);
  await executor.hold([timedPlan, checkedPlan]);
  return {
    async run() {
      await runPlan(timedPlan);
    },
    async outputs() {
      const results = await runPlan(checkedPlan);
      if (learn.length === 0) return [results.get("y")!];
      return Promise.all(learn.map((name) => tensors.get(gradientName(name))!.read()));
    },
    dispose() {
      executor.dispose();
      for (const tensor of tensors.values()) tensor.dispose();
    },
  };
}

function dtypeOf(data: TensorData): Dtype {
  if (data instanceof Float32Array) return "f32";
  return data instanceof Int32Array ? "i32" : "u32";
}

/** The training step by `Trainer`. */
async function safetapeStep(engine: Engine): Promise<Runner> {
  const model = await stepModel(engine);
  const trainer = await stepTrainer(model);
  const steps = trainer.steps();
  const step = async (): Promise<number> => {
    const { value } = await steps.next();
    if (!value) throw new Error("The run ended early.");
    return value.loss;
  };
  return stepRunner(step, () => {
    trainer.dispose();
    model.dispose();
  });
}
