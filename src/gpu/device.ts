import { DeviceError, OutOfMemoryError } from "../base/errors";
import type { KernelFeature, Launch } from "../op/launch";
import type { Limits } from "../op/limits";
import { pipelineKey, Pipelines } from "./pipelines";
import { Pool } from "./pool";
import type { KernelChecker } from "./tuning/checker";
import type { Tuner, TuningOptions } from "./tuning/tuner";
import { namedVariants, usualVariants, withHalfProducts } from "./variants";
import type { VariantChoice, VariantName } from "./variants";

/** Names and features of an adapter, for reports and for the choice of kernels. */
export interface AdapterInfo {
  readonly vendor: string;
  readonly architecture: string;
  readonly device: string;
  readonly description: string;
  /** Whether it runs on the CPU, as llvmpipe and SwiftShader do. */
  readonly isSoftware: boolean;
  /** Subgroup size, if it is the same for all kernels. Undefined where it varies or kernels cannot use subgroups. */
  readonly subgroup?: number;
  /** Optional features that kernels may use. */
  readonly features?: readonly KernelFeature[];
}

/** Waits for a promise of the device, and returns its result. */
export type Waiting = <T>(work: Promise<T>, adapter: AdapterInfo) => Promise<T>;

export interface DeviceOptions {
  /** Limits below the adapter's own. */
  readonly limits?: Partial<Limits> | undefined;
  /** How to wait for the device. Default: by awaiting its promises. */
  readonly waiting?: Waiting | undefined;
  /** Which kernels run. Default: by a table, the same for everyone with this adapter. */
  readonly variants?: VariantName | VariantChoice | undefined;
  /** Whether products multiply and sum in f16 where that is possible. Default false. */
  readonly halfProducts?: boolean | undefined;
  /** How the "tuned" variants are found. */
  readonly tuning?: TuningOptions | undefined;
  /** Whether variants are compared with the portable kernels before they run for the first time, or only on GPUs. Default false. */
  readonly checkKernels?: boolean | "gpus" | undefined;
}

/** Milliseconds that the news of a lost device may take to arrive. */
const LOSS_NEWS_MS = 200;

/** An open device with its buffers and pipelines. */
export class Device {
  readonly pool: Pool;
  readonly pipelines: Pipelines;
  readonly limits: Limits;
  readonly variants: VariantChoice;
  /** Number of times that the host has written to tensors. Results computed before a write may be outdated. */
  writes = 0;
  /** Undefined where kernels are chosen without measurements. */
  readonly tuner: Tuner | undefined;
  /** Pipelines of variants that are not used, by `pipelineKey`. */
  readonly leftOut = new Set<string>();
  #checker: Promise<KernelChecker> | undefined;
  #lost: GPUDeviceLostInfo | undefined;
  #failure: GPUError | undefined;
  #isClosed = false;
  /** How to wait for the device. */
  readonly waiting: Waiting;

  /**
   * @param createTuner creates what finds "tuned" kernels; `openDevice` loads it only if needed.
   * @param createChecker loads and creates what compares variants; none are compared without it.
   */
  constructor(
    readonly handle: GPUDevice,
    readonly info: AdapterInfo,
    {
      limits = {},
      waiting = (work) => work,
      variants,
      halfProducts = false,
    }: Omit<DeviceOptions, "tuning" | "checkKernels"> = {},
    createTuner?: (device: Device) => Tuner,
    private readonly createChecker?: (device: Device) => Promise<KernelChecker>,
  ) {
    this.tuner = createTuner?.(this);
    const usual = this.tuner?.choose ?? variantChoice(variants, info);
    const choose = halfProducts ? withHalfProducts(usual, info) : usual;
    this.variants = (launch) => choose(this.leftOut.size > 0 ? this.#without(launch) : launch);
    this.pool = new Pool(handle);
    this.waiting = waiting;
    this.pipelines = new Pipelines(handle, (work) => waiting(work, info));
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

  /** A launch without the variants that are left out. */
  #without(launch: Launch): Launch {
    const { entry, variants = [] } = launch;
    return { ...launch, variants: variants.filter((variant) => !this.leftOut.has(pipelineKey({ ...variant, entry }))) };
  }

  /** What compares variants with the portable kernels, loaded on first use; undefined where that is turned off. */
  get checker(): Promise<KernelChecker> | undefined {
    return (this.#checker ??= this.createChecker?.(this));
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
      const remedy = "This is a bug in safetape; please report it.";
      return new DeviceError(`The device refused a command: ${message}`, remedy);
    }
    const { liveBytes } = this.pool.ledger;
    return new OutOfMemoryError(
      `The driver is out of memory, with ${liveBytes} bytes live: ${message}`,
      "Dispose of what is no longer used, or use a smaller batch.",
      { requestedBytes: 0, liveBytes },
    );
  }

  /** Whether the device was lost rather than closed. Waits for a moment, since a failure may arrive before that news. */
  async isLost(): Promise<boolean> {
    if (this.#isClosed) return false;
    const timeout = new Promise((resolve) => setTimeout(resolve, LOSS_NEWS_MS));
    await Promise.race([this.handle.lost, timeout]);
    return this.#lost !== undefined;
  }

  /** Copies host data into a buffer, ahead of all commands that are submitted later. */
  upload(buffer: GPUBuffer, offset: number, data: Float32Array | Int32Array | Uint32Array): void {
    // The types of WebGPU exclude shared memory, which no array here is made of; TypeScript cannot know.
    this.handle.queue.writeBuffer(buffer, offset, data as Float32Array<ArrayBuffer>);
  }

  /** Waits for the device in the way that its options say. Throws as `guard` does. */
  wait<T>(work: Promise<T>): Promise<T> {
    return this.guard(this.waiting(work, this.info));
  }

  /** Awaits `work`. @throws DeviceError when it fails because the device is lost; else whatever `work` throws. */
  async guard<T>(work: Promise<T>): Promise<T> {
    try {
      return await work;
    } catch (error) {
      // The device's `lost` promise may resolve after this rejection; let it arrive first.
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

function variantChoice(variants: DeviceOptions["variants"], info: AdapterInfo): VariantChoice {
  if (typeof variants === "function") return variants;
  return variants === undefined || variants === "tuned" ? usualVariants(info) : namedVariants(variants, info);
}

const KERNEL_FEATURES: readonly KernelFeature[] = ["shader-f16"];

/**
 * Opens a device with the adapter's highest limits.
 * @throws DeviceError when there is no WebGPU or no adapter, or when it lacks the feature that `halfProducts` needs.
 */
export async function openDevice(gpu: GPU | undefined, options: DeviceOptions = {}): Promise<Device> {
  const adapter = await gpu?.requestAdapter({ powerPreference: "high-performance" });
  if (!gpu || !adapter) {
    throw new DeviceError(
      "No WebGPU adapter was found.",
      "Install a Vulkan driver (`npx safetape doctor` names the package), or use a browser with WebGPU.",
    );
  }
  if (options.halfProducts && !adapter.features.has("shader-f16")) {
    throw new DeviceError(
      `This adapter has no shader-f16, which halfProducts needs: ${adapter.info.description || adapter.info.device}`,
      "Leave halfProducts out, or use another adapter or driver.",
    );
  }
  const limitNames = [
    "maxStorageBufferBindingSize",
    "maxBufferSize",
    "maxStorageBuffersPerShaderStage",
    "maxComputeWorkgroupsPerDimension",
    "maxComputeInvocationsPerWorkgroup",
    "maxComputeWorkgroupSizeX",
    "minStorageBufferOffsetAlignment",
  ] as const;
  const requiredLimits = Object.fromEntries(limitNames.map((name) => [name, adapter.limits[name]]));
  const optionalFeatures = ["timestamp-query", "subgroups", ...KERNEL_FEATURES] as const;
  const requiredFeatures = optionalFeatures.filter((feature) => adapter.features.has(feature));
  const handle = await adapter.requestDevice({ requiredLimits, requiredFeatures });
  const info = { ...adapterInfo(adapter), ...subgroupOf(gpu, adapter) };
  const { tuning, checkKernels = false, ...rest } = options;
  const { Tuner } = rest.variants === "tuned" ? await import("./tuning/tuner") : {};
  const createChecker = async (device: Device): Promise<KernelChecker> => {
    const { KernelChecker } = await import("./tuning/checker");
    return new KernelChecker(device, tuning);
  };
  return new Device(
    handle,
    info,
    rest,
    Tuner && ((device) => new Tuner(device, tuning)),
    checkKernels === true || (checkKernels === "gpus" && !info.isSoftware) ? createChecker : undefined,
  );
}

function adapterInfo({ info, features }: GPUAdapter): AdapterInfo {
  const { vendor, architecture, device, description } = info;
  const software = /llvmpipe|swiftshader|lavapipe|software/i.test(`${description} ${device} ${architecture}`);
  const isSoftware = info.isFallbackAdapter || software;
  return {
    vendor,
    architecture,
    device,
    description,
    isSoftware,
    features: KERNEL_FEATURES.filter((name) => features.has(name)),
  };
}

/** The subgroup size, where kernels can use subgroups: they need a fixed size, and pointers as function parameters. */
function subgroupOf({ wgslLanguageFeatures }: GPU, adapter: GPUAdapter): Pick<AdapterInfo, "subgroup"> {
  const { features } = adapter;
  // Older implementations do not say them.
  const info: Partial<GPUAdapterInfo> = adapter.info;
  const { subgroupMinSize: least, subgroupMaxSize: most } = info;
  const isSupported = features.has("subgroups") && wgslLanguageFeatures.has("unrestricted_pointer_parameters");
  return isSupported && least !== undefined && least === most ? { subgroup: least } : {};
}
