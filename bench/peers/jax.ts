import type { numpy } from "@jax-js/jax";
import { deviceErrors } from "../support/browser";
import { loadJax } from "../support/jax";
import type { Jax } from "../support/jax";
import { jaxStep } from "./jax-step";
import { asIs } from "./workload";
import type { BenchedEngine, Family, Input, Runner, Workload } from "./workload";

type Arrays = { [name: string]: numpy.Array };

/** Each family in the style of JAX's documentation. Functions consume their arguments. */
const COMPUTE: Record<Family, (jax: Jax, arrays: Arrays, attributes: Workload["attributes"]) => numpy.Array> = {
  product: ({ numpy: np }, { x, w }) => np.matmul(x!, w!),
  lora: ({ numpy: np }, { x, w, a, b }, { scale = 1 }) => {
    const lowRank = np.matmul(np.matmul(x!.ref, np.matrixTranspose(a!)), np.matrixTranspose(b!));
    return np.matmul(x!, w!).add(lowRank.mul(scale));
  },
  attention: ({ nn, numpy: np }, { q, k, v }, { scale = 1 }) => {
    const scores = np.matmul(q!, np.matrixTranspose(k!)).mul(scale);
    return np.matmul(nn.softmax(scores, -1), v!);
  },
  layer_norm: ({ nn }, { x, weight, bias }, { eps = 0 }) =>
    nn.standardize(x!, -1, { epsilon: eps }).mul(weight!).add(bias!),
  cross_entropy: ({ nn, numpy: np }, { x, labels }, { classes = 0 }) => {
    const rows = x!.shape[0] ?? 1;
    // `nn.oneHot` takes rows from a table of classes x classes, which is too large for a binding.
    const isLabel = np.equal(labels!.reshape([rows, 1]), np.arange(classes, undefined, undefined, { dtype: np.int32 }));
    return np.sum(np.where(isLabel, nn.logSoftmax(x!, -1), 0)).mul(-1 / rows);
  },
};

export async function jax(): Promise<BenchedEngine> {
  const loaded = await loadJax();
  return {
    name: "jax-js",
    sync: "blockUntilReady, which maps no byte of each result",
    check: deviceErrors(loaded.getWebGPUDevice()),
    prepare: (workload) => {
      const { family } = workload;
      if (family === "step") return Promise.resolve(jaxStep(loaded, workload));
      return Promise.resolve(prepare(loaded, workload, COMPUTE[family]));
    },
  };
}

/** Compiles one function: forward, or forward and gradients. */
function prepare(jax: Jax, workload: Workload, compute: (typeof COMPUTE)[Family]): Runner {
  const { blockUntilReady, jit, tree, valueAndGrad, vjp } = jax;
  const { peerInputs, peerDy, learn, attributes, fromPeer = asIs } = workload;
  const arrays = Object.entries(peerInputs).map(([name, input]) => [name, arrayOf(jax, input)] as const);
  const live: Arrays = Object.fromEntries(arrays.filter(([name]) => learn.includes(name)));
  const constants: Arrays = Object.fromEntries(arrays.filter(([name]) => !learn.includes(name)));
  const dy: Arrays = peerDy ? { dy: arrayOf(jax, peerDy) } : {};
  const result = (trained: Arrays, rest: Arrays): numpy.Array => compute(jax, { ...trained, ...rest }, attributes);
  // The result is returned too, since `jit` leaves out computations that no result needs.
  const gradients = (trained: Arrays, rest: Arrays, seed: Arrays): Arrays => {
    if (!seed["dy"]) {
      const [y, differentials] = valueAndGrad(result)(trained, rest);
      return { y, ...differentials };
    }
    const [y, pullBack] = vjp((arrays: Arrays) => result(arrays, rest), [trained]);
    // The gradients have the structure of the arguments, which the type of `vjp` does not say.
    const [differentials] = pullBack(seed["dy"]) as unknown as [Arrays];
    pullBack.dispose();
    return { y, ...differentials };
  };
  const forward = (trained: Arrays, rest: Arrays): Arrays => ({ y: result(trained, rest) });
  const compiled = jit(learn.length > 0 ? gradients : forward);
  const runCompiled = (): Arrays => compiled(tree.ref(live), tree.ref(constants), tree.ref(dy));
  const outputNames = learn.length > 0 ? learn : ["y"];
  return {
    async run() {
      const results = runCompiled();
      await blockUntilReady(results);
      tree.dispose(results);
    },
    async outputs() {
      const results = runCompiled();
      // Results are float32.
      const read = async (name: string) => fromPeer((await results[name]!.ref.data()) as Float32Array);
      const data = await Promise.all(outputNames.map(read));
      tree.dispose(results);
      return data;
    },
    dispose() {
      tree.dispose([live, constants, dy]);
      compiled.dispose();
    },
  };
}

export function arrayOf({ numpy: np }: Jax, { shape, data }: Input): numpy.Array {
  const dtype = data instanceof Float32Array ? np.float32 : np.int32;
  return np.array(data, { shape: [...shape], dtype });
}
