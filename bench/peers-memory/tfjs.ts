import type { Scalar, Tensor, Variable } from "@tensorflow/tfjs-core";
import { loadTfjs } from "../support/tfjs";
import { ADAM, LAYERS, RANK, ROWS, values, WIDTH } from "./stack";
import type { Stack } from "./stack";

/** The stack in TensorFlow.js: frozen adapters are tensors, live ones are variables, and the optimizer is `tf.train.adam`. */
export async function tfjsStack(live: number): Promise<Stack> {
  const tf = await loadTfjs();
  const initial = values();
  const x = tf.tensor2d(initial.x, [ROWS, WIDTH]);
  const head = tf.tensor2d(initial.head, [WIDTH, 1]);
  const targets = tf.tensor2d(initial.targets, [ROWS, 1]);
  const variables: Variable[] = [];
  const adapter = (layer: number, data: Float32Array, shape: [number, number]): Tensor => {
    const tensor = tf.tensor2d(data, shape);
    if (layer < LAYERS - live) return tensor;
    const variable = tf.variable(tensor);
    tensor.dispose();
    variables.push(variable);
    return variable;
  };
  const layers = initial.layers.map(({ w, a, b }, i) => ({
    w: tf.tensor2d(w, [WIDTH, WIDTH]),
    a: adapter(i, a, [WIDTH, RANK]),
    b: adapter(i, b, [RANK, WIDTH]),
  }));
  const loss = (): Scalar => {
    let h: Tensor = x;
    for (const { w, a, b } of layers) {
      h = tf.relu(tf.add(tf.matMul(h, w), tf.matMul(tf.matMul(h, a), b)));
    }
    return tf.losses.meanSquaredError(targets, tf.matMul(h, head));
  };
  const adam = tf.train.adam(ADAM.learningRate, ADAM.beta1, ADAM.beta2, ADAM.epsilon);
  return {
    async step() {
      const value = adam.minimize(loss, true, variables);
      if (!value) throw new Error("The optimizer returned no loss.");
      const [data] = await value.data();
      value.dispose();
      return data!;
    },
    async gradients() {
      const { value, grads } = tf.variableGrads(loss, variables);
      value.dispose();
      // Variables of type float32 have gradients that are Float32Arrays.
      return Promise.all(variables.map(async ({ name }) => (await grads[name]!.data()) as Float32Array));
    },
  };
}
