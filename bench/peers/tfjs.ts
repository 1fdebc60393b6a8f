import type { Tensor } from "@tensorflow/tfjs-core";
import { deviceErrors } from "../support/browser";
import { loadTfjs } from "../support/tfjs";
import type { Tfjs } from "../support/tfjs";
import { tfjsStep } from "./tfjs-step";
import { asIs } from "./workload";
import type { BenchedEngine, Family, Input, Runner, Workload } from "./workload";

type Tensors = Readonly<Record<string, Tensor>>;

/** Each family in the style of TensorFlow.js's documentation. */
const COMPUTE: Record<Family, (tf: Tfjs, tensors: Tensors, attributes: Workload["attributes"]) => Tensor> = {
  product: (tf, { x, w }) => tf.matMul(x!, w!),
  lora: (tf, { x, w, a, b }, { scale = 1 }) => {
    const lowRank = tf.matMul(tf.matMul(x!, a!, false, true), b!, false, true);
    return tf.add(tf.matMul(x!, w!), tf.mul(lowRank, scale));
  },
  attention: (tf, { q, k, v }, { scale = 1 }) => {
    const scores = tf.mul(tf.matMul(q!, k!, false, true), scale);
    return tf.matMul(tf.softmax(scores), v!);
  },
  layer_norm: (tf, { x, weight, bias }, { eps = 0 }) => {
    const { mean, variance } = tf.moments(x!, -1, true);
    const normal = tf.mul(tf.sub(x!, mean), tf.rsqrt(tf.add(variance, eps)));
    return tf.add(tf.mul(normal, weight!), bias!);
  },
  cross_entropy: (tf, { x, labels }, { classes = 0 }) =>
    tf.losses.softmaxCrossEntropy(tf.cast(tf.oneHot(labels!, classes), "float32"), x!),
};

export async function tfjs(): Promise<BenchedEngine> {
  const tf = await loadTfjs();
  const check = deviceErrors(backendOf(tf).device);
  return {
    name: "TensorFlow.js",
    sync: "submitQueue, then queue.onSubmittedWorkDone",
    check,
    prepare: (workload) => {
      const { family } = workload;
      if (family === "step") return tfjsStep(tf, workload);
      return Promise.resolve(prepare(tf, workload, COMPUTE[family]));
    },
  };
}

function prepare(tf: Tfjs, workload: Workload, compute: (typeof COMPUTE)[Family]): Runner {
  const { peerInputs, peerDy, learn, attributes, fromPeer = asIs } = workload;
  const tensors = Object.fromEntries(Object.entries(peerInputs).map(([name, input]) => [name, tensorOf(tf, input)]));
  const dy = peerDy && tensorOf(tf, peerDy);
  const trained = learn.map((name) => tensors[name]!);
  const result = (...args: Tensor[]): Tensor => {
    const argsByName = Object.fromEntries(args.map((tensor, i): [string, Tensor] => [learn[i]!, tensor]));
    return compute(tf, { ...tensors, ...argsByName }, attributes);
  };
  const computeOutputs = (): Tensor[] =>
    tf.tidy((): Tensor[] => (learn.length > 0 ? tf.grads(result)(trained, dy) : [result()]));
  return {
    async run() {
      const results = computeOutputs();
      await waitForQueue(tf);
      tf.dispose(results);
    },
    async outputs() {
      const results = computeOutputs();
      // Results are float32.
      const data = await Promise.all(results.map(async (tensor) => fromPeer((await tensor.data()) as Float32Array)));
      tf.dispose(results);
      return data;
    },
    dispose: () => [...Object.values(tensors), ...(dy ? [dy] : [])].forEach((tensor) => tensor.dispose()),
  };
}

export const tensorOf = (tf: Tfjs, { shape, data }: Input): Tensor =>
  tf.tensor(data, [...shape], data instanceof Float32Array ? "float32" : "int32");

/** The members of the WebGPU backend that `waitForQueue` uses. */
interface WebGpuBackend {
  readonly device: GPUDevice;
  ensureCommandEncoderReady(): void;
  endComputePassEncoder(): void;
  submitQueue(): void;
}

// `tf.backend()` has the type of all backends; `loadTfjs` selected this one.
const backendOf = (tf: Tfjs): WebGpuBackend => tf.backend() as unknown as WebGpuBackend;

/** Submits the pending commands and waits until the queue is empty. */
async function waitForQueue(tf: Tfjs): Promise<void> {
  const backend = backendOf(tf);
  backend.ensureCommandEncoderReady();
  backend.endComputePassEncoder();
  backend.submitQueue();
  await backend.device.queue.onSubmittedWorkDone();
}
