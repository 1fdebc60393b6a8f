import type { numpy } from "@jax-js/jax";
import type { Jax } from "./jax";

type Leaf = numpy.Array;

/** Adam's state for a tree of parameters: the number of updates, and both moments. */
export type AdamState<T> = { count: Leaf; first: T; second: T };

export interface AdamRates {
  readonly learningRate: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
}

/** Adam for jax-js with the interface of optax: `init` makes the state, `update` is a pure function of state and gradients. */
export function adam<T extends { [key: string]: Leaf }[]>(
  np: Jax["numpy"],
  tree: Jax["tree"],
  { learningRate, beta1, beta2, epsilon }: AdamRates,
) {
  // The type of `tree.map` does not say that the result has the structure of its arguments.
  const map = tree.map as unknown as (leaf: (...leaves: Leaf[]) => Leaf, ...trees: T[]) => T;
  const zeros = (parameters: T): T => map((parameter: Leaf) => np.zeros(parameter.shape), parameters);
  const decayed = (beta: number, moments: T, terms: T): T =>
    map((moment: Leaf, term: Leaf) => moment.mul(beta).add(term.mul(1 - beta)), moments, terms);
  return {
    init: (parameters: T): AdamState<T> => ({
      count: np.array(0, { dtype: np.float32 }),
      first: zeros(parameters),
      second: zeros(parameters),
    }),
    update(parameters: T, gradients: T, { count, first, second }: AdamState<T>): [T, AdamState<T>] {
      const squares = map((gradient: Leaf) => np.square(gradient), tree.ref(gradients));
      const state = {
        count: count.add(1),
        first: decayed(beta1, first, gradients),
        second: decayed(beta2, second, squares),
      };
      const correction = (beta: number): Leaf => np.power(beta, state.count.ref).mul(-1).add(1);
      const [correction1, correction2] = [correction(beta1), correction(beta2)];
      const updated = (parameter: Leaf, m: Leaf, v: Leaf): Leaf => {
        const root = np.sqrt(v.div(correction2.ref)).add(epsilon);
        return parameter.sub(m.div(correction1.ref).mul(learningRate).div(root));
      };
      const next = map(updated, parameters, tree.ref(state.first), tree.ref(state.second));
      correction1.dispose();
      correction2.dispose();
      return [next, state];
    },
  };
}
