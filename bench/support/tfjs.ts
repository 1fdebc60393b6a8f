import { actAsBrowser } from "./browser";

/** TensorFlow.js without its umbrella package: core, all gradients, and the WebGPU backend in use. */
export async function loadTfjs() {
  actAsBrowser();
  const tf = await import("@tensorflow/tfjs-core");
  await import("@tensorflow/tfjs-core/dist/register_all_gradients");
  await import("@tensorflow/tfjs-backend-webgpu");
  if (!(await tf.setBackend("webgpu"))) throw new Error("TensorFlow.js finds no WebGPU backend here.");
  return tf;
}

export type Tfjs = Awaited<ReturnType<typeof loadTfjs>>;
