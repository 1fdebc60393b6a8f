import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { DeviceError } from "../base/errors";

export interface NodeGpuOptions {
  /** Options of Dawn, such as `enable-dawn-features=vulkan_enable_f16_on_nvidia`. Default: none. */
  readonly dawn?: readonly string[];
}

/** Dawn rounds timestamps to a tenth of a millisecond, so that web pages cannot spy by them: too coarse for one dispatch. */
const DAWN = ["disable-dawn-features=timestamp_quantization"];

/** Drivers of SwiftShader that browsers install where the Vulkan loader does not find them. */
const SWIFTSHADER = [
  "/usr/lib/chromium/vk_swiftshader_icd.json",
  "/usr/lib/chromium-browser/vk_swiftshader_icd.json",
  "/opt/google/chrome/vk_swiftshader_icd.json",
  "/opt/microsoft/msedge/vk_swiftshader_icd.json",
];

/** Every GPU object that was created: Dawn's devices stop working when theirs is garbage collected. */
const instances: GPU[] = [];

/**
 * The GPU of this machine, through the npm package `webgpu` (Dawn). The environment variable `VK_DRIVER_FILES` selects a
 * Vulkan driver; without it the drivers of the system are tried first, then the SwiftShader of an installed browser.
 * @throws DeviceError if `webgpu` is not installed.
 */
export async function nodeGpu({ dawn = [] }: NodeGpuOptions = {}): Promise<GPU> {
  // Without it, llvmpipe prints a warning on stderr.
  process.env["XDG_RUNTIME_DIR"] ??= tmpdir();
  const webgpu = await loadWebgpu();
  const create = (): GPU => {
    const gpu = webgpu.create([...DAWN, ...dawn]);
    instances.push(gpu);
    return gpu;
  };
  const gpu = create();
  if (process.env["VK_DRIVER_FILES"] || (await gpu.requestAdapter())) return gpu;
  const driver = SWIFTSHADER.find((path) => existsSync(path));
  if (!driver) return gpu;
  process.env["VK_DRIVER_FILES"] = driver;
  return create();
}

async function loadWebgpu(): Promise<{ create(options: string[]): GPU }> {
  try {
    return await import("webgpu");
  } catch (error) {
    throw new DeviceError(
      "The npm package `webgpu`, which provides WebGPU in Node, cannot be loaded.",
      "Run `npm install webgpu`, or pass your own GPU: createEngine({ gpu }).",
      { cause: error },
    );
  }
}
