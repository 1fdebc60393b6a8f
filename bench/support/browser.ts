import { create, globals } from "webgpu";

/** Dawn's instance. Its promises never settle once it has been collected, so it is kept here. */
let dawn: GPU | undefined;

/** Defines the globals that engines written for browsers expect: `navigator` and WebGPU's classes and constants. */
export function actAsBrowser(): GPU {
  if (dawn) return dawn;
  dawn = create([]);
  Object.assign(globalThis, globals);
  const value = { gpu: dawn, userAgent: `Node ${process.version}`, platform: process.platform };
  Object.defineProperty(globalThis, "navigator", { value, configurable: true });
  return dawn;
}

/** Listens to a device's errors. The function returned throws the first error since its last call, if there was one. */
export function deviceErrors(device: GPUDevice): () => void {
  let firstError: string | undefined;
  device.addEventListener("uncapturederror", (event) => {
    firstError ??= event.error.message;
    event.preventDefault();
  });
  return () => {
    const message = firstError;
    firstError = undefined;
    if (message !== undefined) throw new Error(`its device reported an error: ${message}`);
  };
}
