import { actAsBrowser } from "./browser";

/** Loads TensorFlow.js (core, all gradients and the WebGPU backend, without the umbrella package) and selects WebGPU. */
export async function loadTfjs() {
  actAsBrowser();
  const tf = await import("@tensorflow/tfjs-core");
  await import("@tensorflow/tfjs-core/dist/register_all_gradients");
  await import("@tensorflow/tfjs-backend-webgpu");
  if (!(await tf.setBackend("webgpu"))) throw new Error("TensorFlow.js does not find a WebGPU device.");
  return tf;
}

export type Tfjs = Awaited<ReturnType<typeof loadTfjs>>;
