import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { DeviceError } from "../base/errors";

/** Options of Dawn, as `enable-dawn-features=vulkan_enable_f16_on_nvidia`. */
export interface NodeGpuOptions {
  readonly dawn?: readonly string[];
}

/** SwiftShader as browsers ship it: a last resort, since the Vulkan loader does not look there by itself. */
const SWIFTSHADER = [
  "/usr/lib/chromium/vk_swiftshader_icd.json",
  "/usr/lib/chromium-browser/vk_swiftshader_icd.json",
  "/opt/google/chrome/vk_swiftshader_icd.json",
  "/opt/microsoft/msedge/vk_swiftshader_icd.json",
];

// Dawn's objects stop working when the object that made them is collected.
const instances: GPU[] = [];

/**
 * The GPU of this machine through npm `webgpu` (Dawn). `VK_DRIVER_FILES` chooses a Vulkan driver; without it the
 * system's drivers are tried, then the SwiftShader of an installed browser.
 * @throws DeviceError when `webgpu` is not installed or finds no adapter.
 */
export async function nodeGpu(options: NodeGpuOptions = {}): Promise<GPU> {
  // llvmpipe complains on stderr without it.
  process.env["XDG_RUNTIME_DIR"] ??= tmpdir();
  const webgpu = await loadWebgpu();
  const first = webgpu.create([...(options.dawn ?? [])]);
  instances.push(first);
  if (process.env["VK_DRIVER_FILES"] || (await first.requestAdapter())) return first;
  const software = SWIFTSHADER.find((path) => existsSync(path));
  if (!software) return first;
  process.env["VK_DRIVER_FILES"] = software;
  const second = webgpu.create([...(options.dawn ?? [])]);
  instances.push(second);
  return second;
}

async function loadWebgpu(): Promise<{ create(options: string[]): GPU }> {
  try {
    return await import("webgpu");
  } catch (error) {
    throw new DeviceError(
      "The npm package `webgpu`, which brings WebGPU to Node, cannot be loaded.",
      "Run `npm install webgpu`, or pass your own GPU: createEngine({ gpu }).",
      { cause: error },
    );
  }
}
