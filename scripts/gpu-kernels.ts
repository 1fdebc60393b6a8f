import { Engine } from "../src/engine";
import { Device, openDevice } from "../src/gpu/device";
import { namedVariants, usualVariants, withHalfProducts } from "../src/gpu/variants";
import type { VariantChoice } from "../src/gpu/variants";
import { napping } from "../src/node/napping";

/**
 * An engine that runs the kernels of a GPU on any adapter, also for launches so small that a GPU would not use them.
 * @param onChoice is called with the name of every kernel that runs in place of a portable one.
 * @throws DeviceError when there is no adapter.
 */
export async function engineWithGpuKernels(gpu: GPU, onChoice?: (kernel: string) => void): Promise<Engine> {
  const { handle, info } = await openDevice(gpu);
  const claimed = { ...info, isSoftware: false };
  const choose = namedVariants("gpu", claimed, 0);
  const variants: VariantChoice = (launch) => {
    const variant = choose(launch);
    if (variant) onChoice?.(variant.kernel.name);
    return variant;
  };
  return new Engine(new Device(handle, claimed, { variants, waiting: napping }));
}

/**
 * An engine whose products run in 16 bits where they can, however few FLOPs they have.
 * @throws DeviceError when there is no adapter, or one without shader-f16.
 */
export async function engineWithHalfProducts(gpu: GPU): Promise<Engine> {
  const { handle, info } = await openDevice(gpu, { halfProducts: true });
  const variants = withHalfProducts(usualVariants(info), info, 0);
  return new Engine(new Device(handle, info, { variants, waiting: napping }));
}
