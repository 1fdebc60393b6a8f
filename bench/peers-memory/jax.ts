import type { numpy } from "@jax-js/jax";
import { adam } from "../support/jax-adam";
import type { AdamState } from "../support/jax-adam";
import { loadJax } from "../support/jax";
import { ADAM, LAYERS, RANK, ROWS, values, WIDTH } from "./stack";
import type { Stack } from "./stack";

type Adapter = { a: numpy.Array; b: numpy.Array };

/** What does not learn. */
type Fixed = {
  weights: numpy.Array[];
  frozen: Adapter[];
  x: numpy.Array;
  head: numpy.Array;
  targets: numpy.Array;
};

type Differentiate = (learning: Adapter[], fixed: Fixed) => [loss: numpy.Array, gradients: Adapter[]];

/** The stack in jax-js: the loss is a function of the live adapters, and a step one function, compiled or not. */
export async function jaxStack(live: number, compiled: boolean): Promise<Stack> {
  const { blockUntilReady, jit, numpy: np, tree, valueAndGrad, nn } = await loadJax();
  const given = values();
  const adapters = given.layers.map(({ a, b }) => ({
    a: np.array(a, { shape: [WIDTH, RANK] }),
    b: np.array(b, { shape: [RANK, WIDTH] }),
  }));
  const fixed: Fixed = {
    weights: given.layers.map(({ w }) => np.array(w, { shape: [WIDTH, WIDTH] })),
    frozen: adapters.slice(0, LAYERS - live),
    x: np.array(given.x, { shape: [ROWS, WIDTH] }),
    head: np.array(given.head, { shape: [WIDTH, 1] }),
    targets: np.array(given.targets, { shape: [ROWS, 1] }),
  };
  const lossOf = (learning: Adapter[], { weights, frozen, x, head, targets }: Fixed): numpy.Array => {
    const h = [...frozen, ...learning].reduce((input, { a, b }, i) => {
      const lowRank = np.matmul(np.matmul(input.ref, a), b);
      return nn.relu(np.matmul(input, weights[i] as numpy.Array).add(lowRank));
    }, x);
    return np.mean(np.square(np.matmul(h, head).sub(targets)));
  };
  const optimizer = adam<Adapter[]>(np, tree, ADAM);
  let learning: Adapter[] = adapters.slice(LAYERS - live);
  let state = optimizer.init(learning);
  const differentiate: Differentiate = valueAndGrad(lossOf);
  const stepOf = (values: Adapter[], moments: AdamState<Adapter[]>, constants: Fixed) => {
    const [loss, gradients] = differentiate(tree.ref(values), constants);
    const [next, nextMoments] = optimizer.update(values, gradients, moments);
    return [loss, next, nextMoments] as [numpy.Array, Adapter[], AdamState<Adapter[]>];
  };
  const run: typeof stepOf = compiled ? jit(stepOf) : stepOf;
  const gradientsOf: Differentiate = compiled ? jit(differentiate) : differentiate;
  return {
    async step() {
      const [loss, next, nextMoments] = run(learning, state, tree.ref(fixed));
      [learning, state] = [next, nextMoments];
      await blockUntilReady([learning, state]);
      const [value] = (await loss.data()) as Float32Array;
      return value as number;
    },
    async gradients() {
      const [loss, gradients] = gradientsOf(tree.ref(learning), tree.ref(fixed));
      loss.dispose();
      return Promise.all(
        gradients.flatMap(({ a, b }) => [a, b]).map(async (one) => (await one.data()) as Float32Array),
      );
    },
  };
}
