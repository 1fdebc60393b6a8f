import { loraName } from "../../adapter/lora";
import { outputMaskName } from "../../adapter/masked";
import type { Shape } from "../../base/shape";
import type { FloatTensor } from "../../io/safetensors";
import type { Model } from "../../model/model";
import type { Span, Structure } from "../../model/structure";

/** What stays of a tensor when groups of a structure are cut out: some of its rows (axis 0) or columns (axis 1). */
export interface Slice {
  readonly axis: 0 | 1;
  /** Rows or columns before the cut. */
  readonly size: number;
  /** Those that stay, ascending. */
  readonly kept: readonly number[];
}

/**
 * The slices of every tensor that shrinks with a structure, by the tensor's name: weights and biases of its projections,
 * their LoRA's B (of projections into it) or A (of those out of it), and masks of outputs. A run need not have all of them.
 * @param keptGroups groups that stay, ascending.
 */
export function structureSlices(
  { projections }: Pick<Model, "projections">,
  { groups, outputs, inputs }: Structure,
  keptGroups: readonly number[],
): ReadonlyMap<string, Slice> {
  const kept = new Set(keptGroups);
  const cut = Array.from({ length: groups }, (_, group) => group).filter((group) => !kept.has(group));
  const keptOf = (name: string, spans: readonly Span[], size: number): number[] => {
    const isKept = new Uint8Array(size).fill(1);
    for (const span of spans.filter(({ projection }) => projection === name)) {
      for (const group of cut) isKept.fill(0, span.offset + group * span.size, span.offset + (group + 1) * span.size);
    }
    return [...isKept.keys()].filter((i) => isKept[i] === 1);
  };
  const slices = new Map<string, Slice>();
  for (const { name, in: inSize, out: outSize, layout } of projections) {
    const [outAxis, inAxis] = layout === "out_in" ? ([0, 1] as const) : ([1, 0] as const);
    if (outputs.some(({ projection }) => projection === name)) {
      const keptOutputs = { size: outSize, kept: keptOf(name, outputs, outSize) };
      slices.set(`${name}.weight`, { axis: outAxis, ...keptOutputs });
      for (const vector of [`${name}.bias`, loraName(name, "B"), outputMaskName(name)]) {
        slices.set(vector, { axis: 0, ...keptOutputs });
      }
    }
    if (inputs.some(({ projection }) => projection === name)) {
      const keptInputs = { size: inSize, kept: keptOf(name, inputs, inSize) };
      slices.set(`${name}.weight`, { axis: inAxis, ...keptInputs });
      slices.set(loraName(name, "A"), { axis: 1, ...keptInputs });
    }
  }
  return slices;
}

/** The rows or columns of a tensor that stay. */
export function gather({ shape, data }: FloatTensor, slice: Slice): FloatTensor {
  const gathered = new Float32Array((data.length / slice.size) * slice.kept.length);
  forKept(shape, slice, (complete, small) => (gathered[small] = data[complete]!));
  return { shape: resized(shape, slice.axis, slice.kept.length), data: gathered };
}

/** The opposite of `gather`: rows or columns that were cut out are 0. */
export function scatter({ shape, data }: FloatTensor, slice: Slice): FloatTensor {
  const scattered = new Float32Array((data.length / slice.kept.length) * slice.size);
  forKept(shape, slice, (complete, small) => (scattered[complete] = data[small]!));
  return { shape: resized(shape, slice.axis, slice.size), data: scattered };
}

const resized = (shape: Shape, axis: number, size: number): Shape => shape.map((old, i) => (i === axis ? size : old));

/** Calls `copy` for every element that stays, with its index in the complete and in the small tensor. */
function forKept(shape: Shape, { axis, size, kept }: Slice, copy: (complete: number, small: number) => void): void {
  const [rows = 1, columns = 1] = shape;
  if (axis === 0) {
    kept.forEach((row, i) => {
      for (let column = 0; column < columns; column++) copy(row * columns + column, i * columns + column);
    });
    return;
  }
  for (let row = 0; row < rows; row++) kept.forEach((column, i) => copy(row * size + column, row * kept.length + i));
}
