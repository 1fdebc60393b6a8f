import type { numpy } from "@jax-js/jax";
import { adam } from "../support/jax-adam";
import type { AdamState } from "../support/jax-adam";
import { loadJax } from "../support/jax";
import { ADAM, LAYERS, RANK, ROWS, values, WIDTH } from "./stack";
import type { Stack } from "./stack";

type Adapter = { a: numpy.Array; b: numpy.Array };

/** Arrays that are not trained. */
type Constants = {
  weights: numpy.Array[];
  frozen: Adapter[];
  x: numpy.Array;
  head: numpy.Array;
  targets: numpy.Array;
};

type StepResult = [loss: numpy.Array, next: Adapter[], moments: AdamState<Adapter[]>];
type Differentiate = (live: Adapter[], constants: Constants) => [loss: numpy.Array, gradients: Adapter[]];

/** The stack in jax-js. A step is one pure function of live adapters, moments and constants, compiled with `jit` or not. */
export async function jaxStack(liveCount: number, isCompiled: boolean): Promise<Stack> {
  const { blockUntilReady, jit, numpy: np, tree, valueAndGrad, nn } = await loadJax();
  const initial = values();
  const adapters = initial.layers.map(({ a, b }) => ({
    a: np.array(a, { shape: [WIDTH, RANK] }),
    b: np.array(b, { shape: [RANK, WIDTH] }),
  }));
  const constants: Constants = {
    weights: initial.layers.map(({ w }) => np.array(w, { shape: [WIDTH, WIDTH] })),
    frozen: adapters.slice(0, LAYERS - liveCount),
    x: np.array(initial.x, { shape: [ROWS, WIDTH] }),
    head: np.array(initial.head, { shape: [WIDTH, 1] }),
    targets: np.array(initial.targets, { shape: [ROWS, 1] }),
  };
  const lossOf = (trained: Adapter[], { weights, frozen, x, head, targets }: Constants): numpy.Array => {
    const h = [...frozen, ...trained].reduce((input, { a, b }, i) => {
      const lowRank = np.matmul(np.matmul(input.ref, a), b);
      return nn.relu(np.matmul(input, weights[i]!).add(lowRank));
    }, x);
    return np.mean(np.square(np.matmul(h, head).sub(targets)));
  };
  const optimizer = adam<Adapter[]>(np, tree, ADAM);
  let live: Adapter[] = adapters.slice(LAYERS - liveCount);
  let state = optimizer.init(live);
  const differentiate: Differentiate = valueAndGrad(lossOf);
  const stepOf = (trained: Adapter[], moments: AdamState<Adapter[]>, fixed: Constants): StepResult => {
    const [loss, gradients] = differentiate(tree.ref(trained), fixed);
    const [next, nextMoments] = optimizer.update(trained, gradients, moments);
    return [loss, next, nextMoments];
  };
  const run: typeof stepOf = isCompiled ? jit(stepOf) : stepOf;
  const gradientsOf: Differentiate = isCompiled ? jit(differentiate) : differentiate;
  return {
    async step() {
      const [loss, next, nextMoments] = run(live, state, tree.ref(constants));
      [live, state] = [next, nextMoments];
      await blockUntilReady([live, state]);
      // The declared type of `data` does not resolve; an array of type float32 gives a Float32Array.
      const [value] = (await loss.data()) as Float32Array;
      return value!;
    },
    async gradients() {
      const [loss, gradients] = gradientsOf(tree.ref(live), tree.ref(constants));
      loss.dispose();
      // An array of type float32 gives a Float32Array.
      const read = async (array: numpy.Array): Promise<Float32Array> => (await array.data()) as Float32Array;
      return Promise.all(gradients.flatMap(({ a, b }) => [a, b]).map(read));
    },
  };
}
