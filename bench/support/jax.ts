import { actAsBrowser } from "./browser";

/** Loads jax-js and makes WebGPU the device of new arrays. */
export async function loadJax() {
  actAsBrowser();
  const jax = await import("@jax-js/jax");
  if (!(await jax.init("webgpu")).includes("webgpu")) throw new Error("jax-js does not find a WebGPU device.");
  jax.defaultDevice("webgpu");
  return jax;
}

export type Jax = Awaited<ReturnType<typeof loadJax>>;
