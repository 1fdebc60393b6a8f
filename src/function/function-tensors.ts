import { ConfigError } from "../base/errors";
import { tensorBytes } from "../base/dtype";
import type { Shape } from "../base/shape";
import type { Engine } from "../engine";
import type { Memory } from "../gpu/pool";
import { stateName } from "../optimizer/names";
import type { Optimizer } from "../optimizer/optimizer";
import { stateShapes } from "../optimizer/record-update";
import { gradientName } from "../run/store";
import type { TensorStore } from "../run/store";
import { Tensor } from "../tensor";
import { checkList } from "./arguments";
import { flatten, initialValues } from "./parameters";
import type { ParameterDeclaration, ParameterTree } from "./parameters";

/** What live parameters may have besides their values: each includes those before it. */
const COMPANIONS = ["nothing", "gradients", "gradients and state"] as const;
export type Companions = (typeof COMPANIONS)[number];

/** Parameters, gradients and optimizer state of a function, in GPU memory from the first call on. */
export class FunctionTensors implements TensorStore {
  readonly #declarations: ReadonlyMap<string, ParameterDeclaration | Tensor>;
  readonly #live: Set<string>;
  /** Parameters by name, gradients by `gradientName`, state by `stateName`. */
  readonly #tensors = new Map<string, Tensor>();
  /** What live parameters have now; undefined before anything is allocated. */
  #held: Companions | undefined;

  constructor(
    private readonly engine: Engine,
    tree: ParameterTree,
    private readonly seed: number,
    private readonly optimizer: Optimizer,
  ) {
    this.#declarations = flatten(tree);
    this.#live = new Set(
      [...this.#declarations].filter(([, each]) => canLearn(each) && !each.isFrozen).map(([name]) => name),
    );
  }

  /** Names of the parameters that learn. */
  get live(): ReadonlySet<string> {
    return this.#live;
  }

  get states(): ReadonlyMap<string, "live" | "frozen"> {
    return new Map([...this.#declarations.keys()].map((name) => [name, this.#live.has(name) ? "live" : "frozen"]));
  }

  /**
   * The parameters of a state that have one of the names, or lie below one of the paths.
   * @throws ConfigError for a name that fits no parameter, and for a value that is not a list.
   */
  matching(names: readonly string[], state: "live" | "frozen"): string[] {
    checkList("names", names, '["first"]');
    const all = [...this.states];
    const fits = (name: string, path: string): boolean => name === path || name.startsWith(`${path}.`);
    const unknown = names.find((path) => !all.some(([name]) => fits(name, path)));
    if (unknown !== undefined) {
      const known = [...this.#declarations.keys()];
      const list = known.slice(0, 8).join(", ") + (known.length > 8 ? `, and ${known.length - 8} more` : "");
      throw new ConfigError(`The function has no parameter ${unknown}.`, `It has ${list}.`);
    }
    return all
      .filter(([name, current]) => current === state && names.some((path) => fits(name, path)))
      .map(([name]) => name);
  }

  /** Freezes parameters, or lets them learn. Their gradients are returned, or made by the next `open`. */
  set(names: readonly string[], state: "live" | "frozen"): void {
    const fixed = names.find((name) => !canLearn(this.#declarations.get(name)!));
    if (state === "live" && fixed !== undefined) {
      throw new ConfigError(
        `The parameter ${fixed} cannot learn: it is packed, or a tensor that the caller owns.`,
        "Declare it with values in f32.",
      );
    }
    for (const name of names) {
      if (state === "live") {
        this.#live.add(name);
        continue;
      }
      for (const key of this.#companions(name, "gradients and state").keys()) {
        this.#tensors.get(key)?.dispose();
        this.#tensors.delete(key);
      }
      this.#live.delete(name);
    }
  }

  /** Bytes by lifetime once it is opened, or as they are now; without tensors of the caller. */
  bytes(asked?: Companions): { readonly weight: number; readonly state: number } {
    const bytes = { weight: 0, state: 0 };
    const companions = largest(this.#held, asked);
    if (companions === undefined) return bytes;
    for (const [name, declaration] of this.#declarations) {
      if (declaration instanceof Tensor) continue;
      const size = bufferBytes(declaration);
      bytes[lifetimeOf(declaration)] += size;
      for (const shape of this.#companions(name, companions).values()) bytes.state += bufferBytes({ shape });
    }
    return bytes;
  }

  /** Shapes of what a parameter has besides its values, by their keys; nothing for a frozen one. */
  #companions(name: string, companions: Companions): ReadonlyMap<string, Shape> {
    const { shape } = this.#declarations.get(name)!;
    if (companions === "nothing" || !this.#live.has(name)) return new Map();
    const state = companions === "gradients" ? {} : stateShapes(this.optimizer, shape, name);
    const ofState = Object.entries(state).map(([slot, slotShape]) => [stateName(slot, name), slotShape] as const);
    return new Map([[gradientName(name), shape], ...ofState]);
  }

  /**
   * Allocates what is missing: all parameters, and what the live ones have besides, now or from earlier calls.
   * @throws OutOfMemoryError if the driver has no memory; nothing is then allocated.
   */
  async open(asked: Companions): Promise<void> {
    const companions = largest(this.#held, asked)!;
    const { device } = this.engine;
    const missing = [...this.#declarations].flatMap(([name, declaration], position) =>
      declaration instanceof Tensor || this.#tensors.has(name) ? [] : [{ name, declaration, position }],
    );
    const zeros = [...this.#live]
      .flatMap((name) => [...this.#companions(name, companions)])
      .filter(([key]) => !this.#tensors.has(key));
    const allocated = await device.pool.checked("the parameters of a function", () => ({
      tensors: missing.map(({ declaration }) => {
        const { shape, format = "f32" } = declaration;
        return new Tensor(device, shape, format, lifetimeOf(declaration));
      }),
      zeros: zeros.map(([, shape]) => new Tensor(device, shape, "f32", "state")),
    }));
    missing.forEach(({ name, declaration, position }, i) => {
      const tensor = allocated.tensors[i]!;
      tensor.fillRows(0, initialValues(declaration, this.seed, position));
      this.#tensors.set(name, tensor);
    });
    zeros.forEach(([key], i) => this.#tensors.set(key, allocated.zeros[i]!));
    this.#held = companions;
  }

  /** A parameter's tensor, with memory. @throws ConfigError for a name that no parameter has. */
  async opened(name: string): Promise<Tensor> {
    if (!this.#declarations.has(name)) this.matching([name], "live");
    await this.open("nothing");
    return this.#tensor(name);
  }

  #tensor(key: string): Tensor {
    const declared = this.#declarations.get(key);
    return declared instanceof Tensor ? declared : this.#tensors.get(key)!;
  }

  /** The gradient of a live parameter. */
  gradient(name: string): Tensor {
    return this.#tensor(gradientName(name));
  }

  lease(key: string): Memory {
    return this.#tensor(key).lease;
  }

  dispose(): void {
    for (const tensor of this.#tensors.values()) tensor.dispose();
    this.#tensors.clear();
    this.#held = undefined;
  }
}

/** The larger of two extents; undefined if neither is given. */
const largest = (a: Companions | undefined, b: Companions | undefined): Companions | undefined =>
  COMPANIONS.findLast((each) => each === a || each === b);

/** Gradients exist in f32, for tensors that the function may change. */
const canLearn = (parameter: ParameterDeclaration | Tensor): parameter is ParameterDeclaration =>
  !(parameter instanceof Tensor) && (parameter.format ?? "f32") === "f32";

const lifetimeOf = ({ isFrozen }: ParameterDeclaration): "weight" | "state" => (isFrozen ? "weight" : "state");

/** Bytes of the buffer of a tensor: a whole number of words. */
const bufferBytes = ({ shape, format = "f32" }: Pick<ParameterDeclaration, "shape" | "format">): number =>
  Math.max(4, Math.ceil(tensorBytes(format, shape) / 4) * 4);
