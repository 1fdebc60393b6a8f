import type { Tensor } from "@tensorflow/tfjs-core";
import { refusals } from "../support/browser";
import { loadTfjs } from "../support/tfjs";
import type { Tfjs } from "../support/tfjs";
import { tfjsStep } from "./tfjs-step";
import { asIs } from "./workload";
import type { BenchedEngine, Family, Input, Runner, Workload } from "./workload";

type Tensors = Readonly<Record<string, Tensor>>;

/** Each family as TensorFlow.js's documentation would write it. */
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
  const check = refusals(backendOf(tf).device);
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
  const learning = learn.map((name) => tensors[name]!);
  const result = (...given: Tensor[]): Tensor =>
    compute(
      tf,
      { ...tensors, ...Object.fromEntries(given.map((one, i): [string, Tensor] => [learn[i] ?? "", one])) },
      attributes,
    );
  const computed = (): Tensor[] =>
    tf.tidy((): Tensor[] => (learn.length > 0 ? tf.grads(result)(learning, dy) : [result()]));
  return {
    async run() {
      const results = computed();
      await done(tf);
      tf.dispose(results);
    },
    async outputs() {
      const results = computed();
      const data = await Promise.all(results.map(async (one) => fromPeer((await one.data()) as Float32Array)));
      tf.dispose(results);
      return data;
    },
    dispose: () => [...Object.values(tensors), ...(dy ? [dy] : [])].forEach((tensor) => tensor.dispose()),
  };
}

export const tensorOf = (tf: Tfjs, { shape, data }: Input): Tensor =>
  tf.tensor(data, [...shape], data instanceof Float32Array ? "float32" : "int32");

/** What of its backend is used to wait. */
interface Queue {
  readonly device: GPUDevice;
  ensureCommandEncoderReady(): void;
  endComputePassEncoder(): void;
  submitQueue(): void;
}

const backendOf = (tf: Tfjs): Queue => tf.backend() as unknown as Queue;

/** Submits what is queued and waits for the queue. */
async function done(tf: Tfjs): Promise<void> {
  const backend = backendOf(tf);
  backend.ensureCommandEncoderReady();
  backend.endComputePassEncoder();
  backend.submitQueue();
  await backend.device.queue.onSubmittedWorkDone();
}
