import type { Engine } from "../engine";
import type { Value } from "../tape/tape";
import { Tensor } from "../tensor";
import { checkBody } from "./arguments";
import { tensorFunction } from "./tensor-function";
import { isValue } from "./trace";
import type { BodyResult, Scope } from "./trace";

/** The tensors that a body computes: one, or several by name. */
export type Computed<R extends BodyResult> = R extends Value ? Tensor : { readonly [K in keyof R]: Tensor };

/**
 * Computes something once, for small things: the values pass through the host. What runs more often is a `tensorFunction`.
 * @param tensors what the body reads, by name. They stay the caller's.
 * @param body records what to compute. It returns one value, or several by name.
 * @returns new tensors, which the caller disposes of.
 */
export async function compute<T extends Readonly<Record<string, Tensor>>, R extends BodyResult>(
  engine: Engine,
  tensors: T,
  body: (values: { readonly [K in keyof T]: Value }, scope: Scope) => R,
): Promise<Computed<R>> {
  checkBody(body);
  const form = { isOne: false };
  using once = tensorFunction(engine, {}, tensors, (_, values, scope) => {
    // A tree of tensors has a value for each of them.
    const result = body(values as { readonly [K in keyof T]: Value }, scope);
    form.isOne = isValue(result);
    return result;
  });
  const results = await once.run({});
  const shapes = once.outputs({ kind: "run" });
  const computed = Object.entries<Float32Array | Int32Array | Uint32Array>(results).map(
    ([name, data]) => [name, Tensor.from(engine.device, data, shapes.get(name)!.shape)] as const,
  );
  // The type says which of the two a body returns.
  return (form.isOne ? computed[0]![1] : Object.fromEntries(computed)) as Computed<R>;
}
