import type { Attributes, MalformedCase, OpTests } from "../../op/declaration";
import { at, filled, input } from "./reference";

/** The reference of a gated unit with an activation. */
export function gated<A extends Attributes>(activation: (v: number, attributes: A) => number): OpTests<A>["reference"] {
  return (inputs, attributes) => {
    const [gate, up] = [input(inputs, "gate"), input(inputs, "up")];
    return { y: filled(gate.shape, (i) => activation(at(gate, i), attributes) * at(up, i)) };
  };
}

/** What every gated unit refuses. */
export const malformedGate = <A extends Attributes>(attributes: A): MalformedCase<A>[] => [
  {
    name: "shapes that differ",
    attributes,
    inputs: { gate: { shape: [2, 3], dtype: "f32" }, up: { shape: [3, 2], dtype: "f32" } },
    message: /gate \[2, 3\] and up \[3, 2\] differ/,
  },
];
