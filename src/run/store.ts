import type { Lease } from "../gpu/pool";

/** Finds the memory of parameters, and of their gradients under `gradientName(name)`. */
export interface TensorStore {
  /** @throws when the tensor does not exist. */
  lease(name: string): Lease;
}

/** The name under which a store finds a tensor of the checkpoint as it was loaded, though a copy of it is trained. */
export const originalName = (parameter: string): string => `loaded ${parameter}`;

/** The name under which a store holds the gradient of a parameter. */
export const gradientName = (parameter: string): string => `gradient of ${parameter}`;
