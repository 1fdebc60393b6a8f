/** Sizes of a tensor's axes, outermost first; `[]` is a scalar. */
export type Shape = readonly number[];

/** Number of elements of a tensor of this shape. */
export function elements(shape: Shape): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** Length of a row: the last size of a shape, or 1 for a scalar. */
export function columns(shape: Shape): number {
  return shape.at(-1) ?? 1;
}

/** Number of rows when all but the last axis are flattened. */
export function rows(shape: Shape): number {
  return elements(shape.slice(0, -1));
}

/** Whether two shapes are equal. */
export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((size, axis) => size === b[axis]);
}

/** Whether `b` broadcasts over the leading axes of `a`: without leading sizes of 1, it equals the last axes of `a`. */
export function isSuffix(b: Shape, a: Shape): boolean {
  const first = b.findIndex((size) => size !== 1);
  const trimmed = first < 0 ? b.slice(-1) : b.slice(first);
  return b.length <= a.length && sameShape(trimmed, a.slice(a.length - trimmed.length));
}

/** A shape as text: `[2, 3]`. */
export function formatShape(shape: Shape): string {
  return `[${shape.join(", ")}]`;
}
