import type { NoAttributes, OpTests } from "../../op/declaration";
import { at, filled, input } from "./reference";

/** The reference of an op that applies a function to every element. */
export function elementwise(f: (x: number) => number): OpTests<NoAttributes>["reference"] {
  return (inputs) => {
    const x = input(inputs, "x");
    return { y: filled(x.shape, (index) => f(at(x, index))) };
  };
}
