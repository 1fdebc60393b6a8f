/** A shape in row-major order; `[]` is a scalar. */
export type Shape = readonly number[];

/** Number of elements of a tensor of this shape. */
export function elements(shape: Shape): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** The last size of a shape (1 for a scalar): the length of a row. */
export function columns(shape: Shape): number {
  return shape.at(-1) ?? 1;
}

/** Number of rows when all but the last axis are flattened. */
export function rows(shape: Shape): number {
  return elements(shape.slice(0, -1));
}

/** Whether two shapes are the same. */
export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((size, axis) => size === b[axis]);
}

/** Whether `b` broadcasts over the leading axes of `a`: `b` equals the last axes of `a`. */
export function isSuffix(b: Shape, a: Shape): boolean {
  const first = b.findIndex((size) => size !== 1);
  const own = first < 0 ? b.slice(-1) : b.slice(first);
  return b.length <= a.length && sameShape(own, a.slice(a.length - own.length));
}

/** `[2, 3]`, as shapes are written in every message. */
export function formatShape(shape: Shape): string {
  return `[${shape.join(", ")}]`;
}
