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
  /** Where to find an adapter: `navigator.gpu` in browsers, Dawn in Node, or your own. */
  readonly gpu?: GPU;
  /** Lowers the adapter's limits, for trying out what a smaller one does. */
  readonly limits?: Partial<Limits>;
  /** Which kernels run where an op has several. Default: subgroups on software adapters, tuned on others. */
  readonly variants?: VariantName;
  /** How long "tuned" kernels are tried, whether they may round otherwise, and where the choice is kept. */
  readonly tuning?: TuningOptions;
  /** How to wait for the GPU. Default: as promises do; in Node `napping`, since npm `webgpu` keeps a core busy. */
  readonly waiting?: Waiting;
}

/** An open GPU: the owner of all memory that models and trainers use. */
export class Engine {
  #device: Device;
  #reopening: Promise<void> | undefined;

  /** @param open opens another device like this one, should it be lost. */
  constructor(
    device: Device,
    private readonly open?: () => Promise<Device>,
  ) {
    this.#device = device;
  }

  /** What it runs on now. */
  get device(): Device {
    return this.#device;
  }

  /** Whether there is a way to another device. */
  get canReopen(): boolean {
    return this.open !== undefined;
  }

  /**
   * Opens another device in place of one that was lost; nothing where somebody did so already. What was on the old one is
   * gone: models come back by `reload`.
   * @throws DeviceError when there is no adapter.
   */
  async reopen(lost: Device): Promise<void> {
    const { open } = this;
    if (this.#device !== lost || !open) return;
    this.#reopening ??= open()
      .then((device) => void (this.#device = device))
      .finally(() => (this.#reopening = undefined));
    await this.#reopening;
  }

  /** Which adapter it runs on. */
  get info(): AdapterInfo {
    return this.device.info;
  }

  /** Every GPU byte by lifetime, live and peak. */
  get ledger(): Ledger {
    return this.device.pool.ledger;
  }

  /** How products and attention run so far, shape class by shape class; empty unless kernels are tuned. */
  get kernels(): readonly KernelChoice[] {
    return this.device.tuner?.choices ?? [];
  }

  /** A tensor with these values. The caller disposes of it. */
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

/**
 * Opens a GPU.
 * @throws DeviceError when there is no adapter.
 */
export async function createEngine(options: EngineOptions = {}): Promise<Engine> {
  const gpu = options.gpu ?? (globalThis.navigator as Navigator | undefined)?.gpu;
  const kept = indexedDbTuningCache();
  const tuning = { ...(kept ? { cache: kept } : {}), ...options.tuning };
  const open = (): Promise<Device> => openDevice(gpu!, { ...options, tuning });
  return new Engine(await open(), open);
}
