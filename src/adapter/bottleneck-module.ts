import { activate } from "../model/activation";
import type { Activation } from "../model/model";
import type { Forward } from "../model/forward";
import { linear } from "../ops/linear";
import type { Value } from "../tape/tape";
import { constant, normal } from "./initial";
import type { NewTensor } from "./initial";

/** Standard deviation of initial weights. */
const DEVIATION = 0.02;

/** The sizes and the activation of a bottleneck U act(D x + d) + u. */
export interface BottleneckSpec {
  /** Its tensors are called `NAME_down` and `NAME_up`. */
  readonly name: string;
  readonly size: number;
  readonly activation: Activation;
  /** Probability of dropout behind the activation. Default 0. */
  readonly dropout?: number;
}

/** Tensors of a bottleneck: D [size, width] and U [width, size] from N(0, 0.02), biases d and u from zero. */
export function bottleneckTensors({ name, size }: Pick<BottleneckSpec, "name" | "size">, width: number): NewTensor[] {
  return [
    normal(`${name}_down.weight`, [size, width], DEVIATION),
    constant(`${name}_down.bias`, [size], 0),
    normal(`${name}_up.weight`, [width, size], DEVIATION),
    constant(`${name}_up.bias`, [width], 0),
  ];
}

/** U act(D x + d) + u of x [..., width]. */
export function bottleneckOf(
  forward: Forward,
  { name, size, activation, dropout = 0 }: BottleneckSpec,
  x: Value,
): Value {
  const width = x.shape.at(-1)!;
  const down = project(forward, `${name}_down`, x, [size, width]);
  const active = forward.dropout(activate(forward.recorder, activation, down), dropout);
  return project(forward, `${name}_up`, active, [width, size]);
}

function project({ recorder }: Forward, name: string, x: Value, shape: readonly [number, number]): Value {
  const w = recorder.parameter(`${name}.weight`, shape);
  const bias = recorder.parameter(`${name}.bias`, [shape[0]]);
  return recorder.apply(linear, { x, w, bias }, { layout: "out_in" });
}
