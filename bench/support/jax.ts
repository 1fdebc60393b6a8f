import { actAsBrowser } from "./browser";

/** jax-js with WebGPU as the device of new arrays. */
export async function loadJax() {
  actAsBrowser();
  const jax = await import("@jax-js/jax");
  if (!(await jax.init("webgpu")).includes("webgpu")) throw new Error("jax-js finds no WebGPU device here.");
  jax.defaultDevice("webgpu");
  return jax;
}

export type Jax = Awaited<ReturnType<typeof loadJax>>;
