import { Device } from "../gpu/device";
import type { DeviceOptions } from "../gpu/device";

/**
 * Runs `body` on a second view of a device, with limits or kernels of its own. The view's memory is its own and returned at the end; what
 * the GPU reports is the view's until then.
 */
export async function onView<T>(
  { handle, info, waiting }: Pick<Device, "handle" | "info" | "waiting">,
  options: Pick<DeviceOptions, "limits" | "variants">,
  body: (view: Device) => Promise<T>,
): Promise<T> {
  const { onuncapturederror } = handle;
  const view = new Device(handle, info, { waiting, ...options });
  try {
    return await body(view);
  } finally {
    view.pool.dispose();
    handle.onuncapturederror = onuncapturederror;
  }
}
