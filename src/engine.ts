import type { Shape } from "./base/shape";
import { openDevice } from "./gpu/device";
import type { AdapterInfo, Device, Waiting } from "./gpu/device";
import type { Ledger } from "./gpu/ledger";
import { indexedDbTuningCache } from "./gpu/tuning/indexed-db";
import type { KernelChoice, TuningOptions } from "./gpu/tuning/tuner";
import type { VariantName } from "./gpu/variants";
import type { Limits } from "./op/limits";
import { Tensor } from "./tensor";
import type { TensorData } from "./tensor";

export interface EngineOptions {
  /** Where to find an adapter. Default: `navigator.gpu` in browsers, Dawn in Node. */
  readonly gpu?: GPU;
  /** Limits below the adapter's own, to try what a smaller adapter does. */
  readonly limits?: Partial<Limits>;
  /**
   * Which kernels run if an op has several. Default: by a table, the same for everyone with this adapter: "subgroups" on
   * software adapters, "gpu" on others. "gpu" may round differently from "portable". "tuned" measures when a plan begins.
   */
  readonly variants?: VariantName;
  /**
   * Whether products of matrices from 64 x 64 on round their elements to f16 and sum up to 16 products in f16, before they add these
   * sums in f32. Losses then have about three right digits. Needs shader-f16. Default false.
   */
  readonly halfProducts?: boolean;
  /** How the "tuned" kernels are chosen: for how long, whether they may round differently, and where results are stored. */
  readonly tuning?: TuningOptions;
  /**
   * Whether a variant is compared with the portable kernel before it runs for the first time on an adapter, driver and
   * version, and left out if it is wrong (`tuning.onWarning` is told). Results are kept in `tuning.cache`. Default: on GPUs. Software
   * adapters compile for seconds what the project's tests compare on them.
   */
  readonly checkKernels?: boolean;
  /** How to wait for the GPU. Default: by awaiting promises; in Node `napping`, since npm's `webgpu` keeps a core busy. */
  readonly waiting?: Waiting;
}

/** An open GPU, which owns all memory that models and trainers use. */
export class Engine {
  #device: Device;
  #reopening: Promise<void> | undefined;

  /**
   * @param open opens another device, for when this one is lost.
   * @internal
   */
  constructor(
    device: Device,
    private readonly open?: () => Promise<Device>,
  ) {
    this.#device = device;
  }

  /**
   * The device that is open now.
   * @internal
   */
  get device(): Device {
    return this.#device;
  }

  /**
   * Whether a lost device can be replaced.
   * @internal
   */
  get canReopen(): boolean {
    return this.open !== undefined;
  }

  /**
   * Opens another device in place of a lost one, unless that was done already. The contents of the lost device are gone;
   * `reload` loads a model again.
   * @throws DeviceError when there is no adapter.
   * @internal
   */
  async reopen(lost: Device): Promise<void> {
    const { open } = this;
    if (this.#device !== lost || !open) return;
    this.#reopening ??= open()
      .then((device) => void (this.#device = device))
      .finally(() => (this.#reopening = undefined));
    await this.#reopening;
  }

  /** The adapter that it runs on. */
  get info(): AdapterInfo {
    return this.device.info;
  }

  /** The bytes of GPU memory by lifetime, live and peak. */
  get ledger(): Ledger {
    return this.device.pool.ledger;
  }

  /** How products and attention run, by shape class, as far as that is decided. Empty unless kernels are tuned. */
  get kernels(): readonly KernelChoice[] {
    return this.device.tuner?.choices ?? [];
  }

  /** Creates a tensor from values in row-major order. The caller disposes of it. @throws ShapeError for another size. */
  tensor(data: TensorData, shape: Shape): Tensor {
    return Tensor.from(this.device, data, shape);
  }

  /** Returns all memory and closes the device. */
  dispose(): void {
    this.device.close();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Opens a GPU. @throws DeviceError when there is no adapter. */
export async function createEngine(options: EngineOptions = {}): Promise<Engine> {
  // TypeScript declares the navigator of browsers, which other programs may not have.
  const gpu = options.gpu ?? (globalThis.navigator as Navigator | undefined)?.gpu;
  const cache = indexedDbTuningCache();
  const tuning = { ...(cache ? { cache } : {}), ...options.tuning };
  const open = (): Promise<Device> =>
    openDevice(gpu, { ...options, checkKernels: options.checkKernels ?? "gpus", tuning });
  return new Engine(await open(), open);
}
