import { DeviceError, OutOfMemoryError } from "../base/errors";
import type { Limits } from "../op/limits";
import { Pipelines } from "./pipelines";
import { Pool } from "./pool";
import type { Tuner, TuningOptions } from "./tuning/tuner";
import { namedVariants, usualVariants } from "./variants";
import type { VariantChoice, VariantName } from "./variants";

/** What a report says about where it ran. */
export interface AdapterInfo {
  readonly vendor: string;
  readonly architecture: string;
  readonly device: string;
  readonly description: string;
  /** A software adapter such as llvmpipe or SwiftShader. */
  readonly isSoftware: boolean;
  /** Invocations of a subgroup, where all have the same number. */
  readonly subgroup?: number;
}

/** Waits for a promise of a device's, and gives what it gives. */
export type Waiting = <T>(work: Promise<T>, adapter: AdapterInfo) => Promise<T>;

export interface DeviceOptions {
  /** Lowers the adapter's own. */
  readonly limits?: Partial<Limits> | undefined;
  /** How to wait for the device. Default: as promises do. */
  readonly waiting?: Waiting | undefined;
  /** Which kernels run. Default: subgroups on software adapters, tuned on others. */
  readonly variants?: VariantName | VariantChoice | undefined;
  /** How "tuned" ones are found. */
  readonly tuning?: TuningOptions | undefined;
}

/** How long the news of a loss may take, in milliseconds. */
const NEWS_MS = 200;

/** An open device with its buffers and pipelines. */
export class Device {
  readonly pool: Pool;
  readonly pipelines: Pipelines;
  readonly limits: Limits;
  readonly variants: VariantChoice;
  /** How often the host has overwritten tensors: what was computed before that may be of what they were. */
  writes = 0;
  /** Undefined where kernels are chosen without trying them. */
  readonly tuner: Tuner | undefined;
  #lost: GPUDeviceLostInfo | undefined;
  #failure: GPUError | undefined;
  #isClosed = false;
  readonly #waiting: Waiting;

  /** @param tunerOf what finds "tuned" kernels; `openDevice` loads it where it is wanted. */
  constructor(
    readonly handle: GPUDevice,
    readonly info: AdapterInfo,
    { limits = {}, waiting = (work) => work, variants }: Omit<DeviceOptions, "tuning"> = {},
    tunerOf?: (device: Device) => Tuner,
  ) {
    this.tuner = tunerOf?.(this);
    if (this.tuner) this.variants = this.tuner.choose;
    else if (typeof variants === "function") this.variants = variants;
    else if (variants === undefined || variants === "tuned") this.variants = usualVariants(info);
    else this.variants = namedVariants(variants, info);
    this.pool = new Pool(handle);
    this.#waiting = waiting;
    this.pipelines = new Pipelines(handle);
    this.limits = {
      bindingBytes: Math.floor(handle.limits.maxStorageBufferBindingSize / 256) * 256,
      offsetAlignment: handle.limits.minStorageBufferOffsetAlignment,
      workgroupsPerDimension: handle.limits.maxComputeWorkgroupsPerDimension,
      ...limits,
    };
    void handle.lost.then((info) => (this.#lost = info));
    handle.onuncapturederror = (event) => {
      event.preventDefault();
      this.#failure ??= event.error;
    };
  }

  /** @throws DeviceError when the device is lost, closed, or has refused a command. */
  check(): void {
    if (this.#isClosed) throw new DeviceError("This device is closed.", "Create a new engine with createEngine().");
    if (this.#lost) {
      throw new DeviceError(
        `The device was lost (${this.#lost.reason}): ${this.#lost.message}`,
        "Create a new engine and load the last saved adapter; if it happens again, use a smaller batch.",
      );
    }
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure) throw this.#refused(failure);
  }

  #refused({ constructor, message }: GPUError): DeviceError {
    if (constructor.name !== "GPUOutOfMemoryError") {
      const defect = "This is a defect of safetape; please report it.";
      return new DeviceError(`The device refused a command: ${message}`, defect);
    }
    const { liveBytes } = this.pool.ledger;
    return new OutOfMemoryError(
      `The driver is out of memory, with ${liveBytes} bytes live: ${message}`,
      "Dispose of what is no longer used, or use a smaller batch.",
      { requestedBytes: 0, liveBytes },
    );
  }

  /** Whether the device was lost rather than closed. To be asked where something failed: the news may come after that. */
  async isLost(): Promise<boolean> {
    if (this.#isClosed) return false;
    const patience = new Promise((resolve) => setTimeout(resolve, NEWS_MS));
    await Promise.race([this.handle.lost, patience]);
    return this.#lost !== undefined;
  }

  /** Copies host data into a buffer, ahead of all commands that are submitted later. */
  upload(buffer: GPUBuffer, offset: number, data: Float32Array | Int32Array | Uint32Array): void {
    // The types of WebGPU exclude shared memory, which no array here is made of; TypeScript cannot know.
    this.handle.queue.writeBuffer(buffer, offset, data as Float32Array<ArrayBuffer>);
  }

  /** Waits for the device, as its options say. @throws what `work` does, as `guard`. */
  wait<T>(work: Promise<T>): Promise<T> {
    return this.guard(this.#waiting(work, this.info));
  }

  /** Turns a rejection that a lost device causes into a DeviceError. */
  async guard<T>(work: Promise<T>): Promise<T> {
    try {
      return await work;
    } catch (error) {
      // The loss is announced by a promise of its own; let it arrive first.
      await new Promise((resolve) => setTimeout(resolve, 0));
      this.check();
      throw error;
    }
  }

  /** Returns all memory and closes the device. */
  close(): void {
    if (this.#isClosed) return;
    this.pool.dispose();
    this.handle.destroy();
    this.#isClosed = true;
  }
}

/**
 * Opens a device on `gpu` with the adapter's own limits.
 * @throws DeviceError when there is no adapter or it gives no device.
 */
export async function openDevice(gpu: GPU, options: DeviceOptions = {}): Promise<Device> {
  const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) {
    throw new DeviceError(
      "No WebGPU adapter was found.",
      "Install a Vulkan driver (`npx safetape doctor` names the package), or use a browser with WebGPU.",
    );
  }
  const wanted = [
    "maxStorageBufferBindingSize",
    "maxBufferSize",
    "maxStorageBuffersPerShaderStage",
    "maxComputeWorkgroupsPerDimension",
    "maxComputeInvocationsPerWorkgroup",
    "maxComputeWorkgroupSizeX",
    "minStorageBufferOffsetAlignment",
  ] as const;
  const requiredLimits = Object.fromEntries(wanted.map((name) => [name, adapter.limits[name]]));
  const requiredFeatures = (["timestamp-query", "subgroups"] as const).filter((feature) =>
    adapter.features.has(feature),
  );
  const handle = await adapter.requestDevice({ requiredLimits, requiredFeatures });
  const info = { ...adapterInfo(adapter), ...subgroupOf(gpu, adapter) };
  const { tuning, variants = info.isSoftware ? "subgroups" : "tuned", ...rest } = options;
  if (variants !== "tuned") return new Device(handle, info, { ...rest, variants });
  const { Tuner } = await import("./tuning/tuner");
  return new Device(handle, info, rest, (device) => new Tuner(device, tuning));
}

function adapterInfo({ info }: GPUAdapter): AdapterInfo {
  const { vendor, architecture, device, description } = info;
  const software = /llvmpipe|swiftshader|lavapipe|software/i.test(`${description} ${device} ${architecture}`);
  return { vendor, architecture, device, description, isSoftware: info.isFallbackAdapter || software };
}

/** What the kernels of subgroups need: one size of them, and pointers to tables as parameters. */
function subgroupOf({ wgslLanguageFeatures }: GPU, { info, features }: GPUAdapter): Pick<AdapterInfo, "subgroup"> {
  const { subgroupMinSize: least, subgroupMaxSize: most } = info;
  const isAble = features.has("subgroups") && wgslLanguageFeatures.has("unrestricted_pointer_parameters");
  return isAble && least !== undefined && least === most ? { subgroup: least } : {};
}
