import { create, globals } from "webgpu";

/** Keeps Dawn's instance alive, without which its promises never settle. */
let dawn: GPU | undefined;

/** Gives Node what engines made for browsers look for: `navigator`, and WebGPU's classes and constants. */
export function actAsBrowser(): GPU {
  if (dawn) return dawn;
  dawn = create([]);
  Object.assign(globalThis, globals);
  const value = { gpu: dawn, userAgent: `Node ${process.version}`, platform: process.platform };
  Object.defineProperty(globalThis, "navigator", { value, configurable: true });
  return dawn;
}

/** Listens to a device. What is returned throws what the device has refused since it was last asked. */
export function refusals(device: GPUDevice): () => void {
  let refused: string | undefined;
  device.addEventListener("uncapturederror", (event) => {
    refused ??= event.error.message;
    event.preventDefault();
  });
  return () => {
    const message = refused;
    refused = undefined;
    if (message !== undefined) throw new Error(`its device refused a command: ${message}`);
  };
}
