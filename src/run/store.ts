import type { Memory } from "../gpu/pool";

/** Finds the memory of parameters by name, and of their gradients by `gradientName(name)`. */
export interface TensorStore {
  /** The memory of a tensor. @throws Error when the tensor does not exist. */
  lease(name: string): Memory;
}

/** The name of a parameter's values as they were loaded, in stores that train a copy of it. */
export const originalName = (parameter: string): string => `loaded ${parameter}`;

/** The name of a parameter's gradient in a store. */
export const gradientName = (parameter: string): string => `gradient of ${parameter}`;
