import type { numpy } from "@jax-js/jax";
import type { Jax } from "../support/jax";
import { adam } from "../support/jax-adam";
import type { AdamState } from "../support/jax-adam";
import { arrayOf } from "./jax";
import { adapterNames, encoderLayer, STEP, STEP_ADAM, stepRunner } from "./step";
import type { Runner, Workload } from "./workload";

type Arrays = { [name: string]: numpy.Array };
type StepResult = [loss: numpy.Array, next: Arrays[], moments: AdamState<Arrays[]>];

const { layers, width, heads, batch, length, classes, eps, scale } = STEP;

/** The training step in jax-js: loss, gradients and Adam in one compiled function of live arrays, moments and the rest. */
export function jaxStep(jax: Jax, { peerInputs, learn }: Workload): Runner {
  const { blockUntilReady, jit, numpy: np, tree, valueAndGrad } = jax;
  const arrays = Object.entries(peerInputs).map(([name, input]) => [name, arrayOf(jax, input)] as const);
  const constants: Arrays = Object.fromEntries(arrays.filter(([name]) => !learn.includes(name)));
  const optimizer = adam<Arrays[]>(np, tree, STEP_ADAM);
  let live: Arrays[] = [Object.fromEntries(arrays.filter(([name]) => learn.includes(name)))];
  let state = optimizer.init(live);
  const lossOf = (trained: Arrays[], rest: Arrays): numpy.Array => loss(jax, { ...trained[0], ...rest });
  const differentiate: (trained: Arrays[], rest: Arrays) => [numpy.Array, Arrays[]] = valueAndGrad(lossOf);
  const stepOf = (trained: Arrays[], moments: AdamState<Arrays[]>, rest: Arrays): StepResult => {
    const [value, gradients] = differentiate(tree.ref(trained), rest);
    const [next, nextMoments] = optimizer.update(trained, gradients, moments);
    return [value, next, nextMoments];
  };
  const compiled = jit(stepOf);
  const step = async (): Promise<number> => {
    const [value, next, moments] = compiled(live, state, tree.ref(constants));
    [live, state] = [next, moments];
    await blockUntilReady([live, state]);
    // The declared type of `data` does not resolve; an array of type float32 gives a Float32Array.
    const [loss] = (await value.data()) as Float32Array;
    return loss!;
  };
  return stepRunner(step, () => {
    tree.dispose([live, state, constants]);
    compiled.dispose();
  });
}

function loss(jax: Jax, arrays: Arrays): numpy.Array {
  const { nn, numpy: np } = jax;
  const { labels, ...rest } = arrays;
  const logits = logitsOf(jax, rest);
  return np.sum(nn.oneHot(labels!, classes).mul(nn.logSoftmax(logits, -1))).mul(-1 / batch);
}

/** BERT with its pooler and classifier. A use consumes its array in jax-js; `ref` allows one more. */
function logitsOf({ nn, numpy: np }: Jax, arrays: Arrays): numpy.Array {
  const at = (name: string): numpy.Array => arrays[name]!;
  const times = (x: numpy.Array, weight: numpy.Array): numpy.Array => np.matmul(x, np.matrixTranspose(weight));
  const linear = (name: string, x: numpy.Array): numpy.Array => {
    const [a, b] = adapterNames(name).map((adapterName) => arrays[adapterName]);
    const lowRank = a && b && times(times(x.ref, a), b).mul(scale);
    const y = times(x, at(`${name}.weight`)).add(at(`${name}.bias`));
    return lowRank ? y.add(lowRank) : y;
  };
  const norm = (name: string, x: numpy.Array): numpy.Array =>
    nn
      .standardize(x, -1, { epsilon: eps })
      .mul(at(`${name}.weight`))
      .add(at(`${name}.bias`));
  const split = (x: numpy.Array): numpy.Array =>
    np.transpose(x.reshape([batch, length, heads, width / heads]), [0, 2, 1, 3]);
  const layer = (x: numpy.Array, index: number): numpy.Array => {
    const name = encoderLayer(index);
    const project = (projection: string): numpy.Array => split(linear(`${name}.attention.self.${projection}`, x.ref));
    const [q, k, v] = [project("query"), project("key"), project("value")];
    const scores = times(q, k).mul(1 / Math.sqrt(width / heads));
    const mixed = np.transpose(np.matmul(nn.softmax(scores, -1), v), [0, 2, 1, 3]).reshape(x.shape);
    const attended = linear(`${name}.attention.output.dense`, mixed).add(x);
    const between = norm(`${name}.attention.output.LayerNorm`, attended);
    const wide = nn.gelu(linear(`${name}.intermediate.dense`, between.ref), { approximate: false });
    return norm(`${name}.output.LayerNorm`, linear(`${name}.output.dense`, wide).add(between));
  };
  const words = np.take(at("bert.embeddings.word_embeddings.weight"), at("ids"), 0).reshape([batch, length, width]);
  const positions = at("bert.embeddings.position_embeddings.weight").slice([0, length]);
  const types = at("bert.embeddings.token_type_embeddings.weight").slice([0, 1]);
  let x = norm(
    "bert.embeddings.LayerNorm",
    words
      .add(types)
      .add(positions)
      .reshape([batch * length, width]),
  );
  for (let i = 0; i < layers; i++) x = layer(x, i);
  const first = x.reshape([batch, length, width]).slice([], 0, []);
  return linear("classifier", np.tanh(linear("bert.pooler.dense", first)));
}
