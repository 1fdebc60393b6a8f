import type { Adapter } from "../../adapter/adapter";
import { maskedProjections } from "../../adapter/masked";
import { elements } from "../../base/shape";
import type { Shape } from "../../base/shape";
import type { Model, TensorPlace } from "../../model/model";
import type { TensorSpec } from "../../op/declaration";
import { DEFAULT_LIMITS } from "../../op/limits";
import { aligned } from "../../optimizer/record-update";
import type { ArenaPlace, Arenas } from "../../optimizer/record-update";
import { specBytes } from "../../tape/emit";
import type { Companion } from "./names";
import { fixedSpecs, trainableSpecs } from "./specs";

/** A buffer of a run's state. */
export interface StateBuffer {
  readonly bytes: number;
  /** The f32 tensors in it by key. */
  readonly tensors: ReadonlyMap<string, PlacedTensor>;
}

interface PlacedTensor {
  readonly shape: Shape;
  /** First byte in the buffer. A binding may begin there on every adapter. */
  readonly offset: number;
  readonly bytes: number;
}

const { bindingBytes } = DEFAULT_LIMITS;

/**
 * The tensors whose values lie side by side, and so do their gradients and the optimizer's state, so that one launch updates
 * them all. An arena holds tensors of one place (a layer, or what lies below or above the layers), since these are frozen
 * together, and at most as many bytes as can be bound. Weights that are trained in place stay where the model has them, and
 * tensors that a pruner cuts stand alone, since it replaces them one structure at a time.
 */
export function arenasOf(model: Model, adapter: Adapter): Arenas {
  const arenas = new Map<string, ArenaPlace>();
  if (maskedProjections(fixedSpecs(model, adapter).keys()).length > 0) return arenas;
  const isOwn = ownsValues(model, adapter);
  const open = new Map<TensorPlace, { readonly arena: number; index: number; bytes: number }>();
  let count = 0;
  for (const [name, spec] of trainableSpecs(model, adapter)) {
    if (!isOwn(name)) continue;
    const bytes = aligned(specBytes(spec));
    let last = open.get(spec.layer);
    if (!last || last.bytes + bytes > bindingBytes) {
      last = { arena: count++, index: 0, bytes: 0 };
      open.set(spec.layer, last);
    }
    arenas.set(name, { arena: last.arena, index: last.index++ });
    last.bytes += bytes;
  }
  return arenas;
}

/** Whether the values of a trainable tensor are the run's own, and not the model's weight. */
function ownsValues(model: Model, adapter: Adapter): (name: string) => boolean {
  const added = new Set(adapter.tensors(model).map(({ name }) => name));
  return (name) => !adapter.trainsInPlace || added.has(name);
}

/**
 * The buffers of a run's state by an identifier that stays when tensors are frozen: the adapter's and all trained tensors with
 * their companions. A buffer that loses a tensor is smaller from then on.
 * @param companions the tensors that a trainable tensor has in addition.
 */
export function stateBuffers(
  model: Model,
  adapter: Adapter,
  companions: (name: string, shape: Shape) => readonly Companion[],
): ReadonlyMap<string, StateBuffer> {
  const buffers = new Map<string, { bytes: number; tensors: Map<string, PlacedTensor> }>();
  const put = (id: string, key: string, spec: TensorSpec): void => {
    const buffer = buffers.get(id) ?? { bytes: 0, tensors: new Map() };
    const [offset, bytes] = [aligned(buffer.bytes), specBytes(spec)];
    buffers.set(id, buffer);
    buffer.tensors.set(key, { shape: spec.shape, offset, bytes });
    buffer.bytes = offset + bytes;
  };
  const arenas = arenasOf(model, adapter);
  const isOwn = ownsValues(model, adapter);
  for (const [name, spec] of fixedSpecs(model, adapter)) put(name, name, spec);
  for (const [name, spec] of trainableSpecs(model, adapter)) {
    const arena = arenas.get(name)?.arena;
    if (isOwn(name)) put(arena === undefined ? name : `values of arena ${arena}`, name, spec);
    for (const { key, shape, kind } of companions(name, spec.shape)) {
      // An arena's values fit into a binding; what is larger than its tensor stands alone.
      const isBeside = arena !== undefined && kind !== undefined && elements(shape) <= elements(spec.shape);
      put(isBeside ? `${kind} of arena ${arena}` : key, key, { shape, dtype: "f32" });
    }
  }
  return buffers;
}
