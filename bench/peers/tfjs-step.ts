import type { Scalar, Tensor, Variable } from "@tensorflow/tfjs-core";
import type { Tfjs } from "../support/tfjs";
import { adapterNames, encoderLayer, STEP, STEP_ADAM, stepRunner } from "./step";
import { tensorOf } from "./tfjs";
import type { Runner, Workload } from "./workload";

type Tensors = Readonly<Record<string, Tensor>>;

const { layers, width, heads, batch, length, classes, eps, scale } = STEP;

/** The training step in TensorFlow.js: tensors for what is frozen, variables for what is trained, and `tf.train.adam`. */
export function tfjsStep(tf: Tfjs, { peerInputs, learn }: Workload): Promise<Runner> {
  const tensors: Record<string, Tensor> = {};
  const variables: Variable[] = [];
  for (const [name, input] of Object.entries(peerInputs)) {
    tensors[name] = tensorOf(tf, input);
    if (!learn.includes(name)) continue;
    const variable = tf.variable(tensors[name]);
    tensors[name].dispose();
    tensors[name] = variable;
    variables.push(variable);
  }
  const adam = tf.train.adam(STEP_ADAM.learningRate, STEP_ADAM.beta1, STEP_ADAM.beta2, STEP_ADAM.epsilon);
  const step = async (): Promise<number> => {
    const loss = adam.minimize(() => lossOf(tf, tensors), true, variables);
    if (!loss) throw new Error("the optimizer returned no loss");
    const [value] = await loss.data();
    loss.dispose();
    return value!;
  };
  return Promise.resolve(
    stepRunner(step, () => {
      tf.dispose(tensors);
      adam.dispose();
    }),
  );
}

function lossOf(tf: Tfjs, tensors: Tensors): Scalar {
  const labels = tf.cast(tf.oneHot(tensors["labels"]!, classes), "float32");
  return tf.losses.softmaxCrossEntropy(labels, logitsOf(tf, tensors));
}

/** BERT with its pooler and classifier. Activations are [tokens, width]. */
function logitsOf(tf: Tfjs, tensors: Tensors): Tensor {
  const at = (name: string): Tensor => tensors[name]!;
  const linear = (name: string, x: Tensor): Tensor => {
    const y = tf.add(tf.matMul(x, at(`${name}.weight`), false, true), at(`${name}.bias`));
    const [a, b] = adapterNames(name).map((adapterName) => tensors[adapterName]);
    if (!a || !b) return y;
    return tf.add(y, tf.mul(tf.matMul(tf.matMul(x, a, false, true), b, false, true), scale));
  };
  const norm = (name: string, x: Tensor): Tensor => {
    const { mean, variance } = tf.moments(x, -1, true);
    const normal = tf.mul(tf.sub(x, mean), tf.rsqrt(tf.add(variance, eps)));
    return tf.add(tf.mul(normal, at(`${name}.weight`)), at(`${name}.bias`));
  };
  const gelu = (x: Tensor): Tensor => tf.mul(tf.mul(x, 0.5), tf.add(tf.erf(tf.div(x, Math.SQRT2)), 1));
  const split = (x: Tensor): Tensor => tf.transpose(tf.reshape(x, [batch, length, heads, width / heads]), [0, 2, 1, 3]);
  const layer = (x: Tensor, index: number): Tensor => {
    const name = encoderLayer(index);
    const [q, k, v] = ["query", "key", "value"].map((projection) =>
      split(linear(`${name}.attention.self.${projection}`, x)),
    );
    const scores = tf.mul(tf.matMul(q!, k!, false, true), 1 / Math.sqrt(width / heads));
    const mixed = tf.reshape(tf.transpose(tf.matMul(tf.softmax(scores), v!), [0, 2, 1, 3]), x.shape);
    const attended = tf.add(linear(`${name}.attention.output.dense`, mixed), x);
    const between = norm(`${name}.attention.output.LayerNorm`, attended);
    const wide = gelu(linear(`${name}.intermediate.dense`, between));
    return norm(`${name}.output.LayerNorm`, tf.add(linear(`${name}.output.dense`, wide), between));
  };
  const words = tf.gather(at("bert.embeddings.word_embeddings.weight"), tf.reshape(at("ids"), [batch, length]));
  const positions = tf.slice(at("bert.embeddings.position_embeddings.weight"), [0, 0], [length, width]);
  const types = tf.slice(at("bert.embeddings.token_type_embeddings.weight"), [0, 0], [1, width]);
  const embedded = tf.reshape(tf.add(tf.add(words, types), positions), [batch * length, width]);
  let x = norm("bert.embeddings.LayerNorm", embedded);
  for (let i = 0; i < layers; i++) x = layer(x, i);
  const first = tf.slice(tf.reshape(x, [batch, length, width]), [0, 0, 0], [batch, 1, width]);
  return linear("classifier", tf.tanh(linear("bert.pooler.dense", tf.reshape(first, [batch, width]))));
}
