import { KernelError, OutOfMemoryError } from "../../base/errors";
import { HALF_TOLERANCE, relativeError } from "../../base/relative-error";
import { sha256Hex } from "../../base/sha256";
import type { Launch, Variant } from "../../op/launch";
import type { Device } from "../device";
import { pipelineKey } from "../pipelines";
import { appliedVariant } from "../variants";
import { withConstants } from "../wgsl";
import { CachedRecord, checkVerdicts, verdictsKey, warn } from "./cache";
import type { Verdict } from "./cache";
import { Scratch, scratchBytes } from "./scratch";
import type { BoundLaunch } from "./scratch";
import type { TuningOptions } from "./tuner";

/** A launch by a variant, and the launches that do the same by portable kernels: one, or the two that it joins. */
export interface VariantLaunch extends BoundLaunch {
  readonly portable: readonly [BoundLaunch, ...BoundLaunch[]];
}

/** A variant that has not run on this device, with its smallest launch. */
interface Unseen {
  /** The pipeline, by `pipelineKey`. */
  readonly key: string;
  readonly variant: Variant;
  readonly run: VariantLaunch;
  readonly bytes: number;
}

/** What a comparison found. */
interface Finding {
  readonly verdict: Verdict;
  /** What is wrong, for people. */
  readonly fault?: string;
}

/**
 * Largest difference, relative to the largest value of a result, that another order of sums may make. It is below one term of a
 * sum over a thousand, and above what rounding made of any variant in tests (2e-5).
 */
const ROUNDING = 1e-4;

/**
 * Compares variants with the portable kernels before they run for the first time, since drivers have faults that no test
 * elsewhere can see. A variant that is wrong is added to the device's `leftOut`. Verdicts are stored in the cache.
 */
export class KernelChecker {
  /** Pipelines that were compared, or that the cache knows. */
  readonly #seen = new Set<string>();
  readonly #stored: CachedRecord<Verdict>;
  #record: Promise<Map<string, Verdict>> | undefined;
  #queue: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly device: Device,
    private readonly options: TuningOptions = {},
  ) {
    this.#stored = new CachedRecord(verdictsKey(device.info), checkVerdicts, options);
  }

  /**
   * Compares the variants among some launches that were not seen yet, each in its smallest launch.
   * @param maxBytes memory that it may use. What needs more is compared when a later plan has room.
   * @returns whether a variant was left out, so that other kernels run in its place.
   * @throws DeviceError when the device is lost.
   */
  check(launches: readonly VariantLaunch[], maxBytes: number): Promise<boolean> {
    const result = this.#queue.then(() => this.#checkNow(launches, maxBytes));
    this.#queue = result.catch(() => undefined);
    return result;
  }

  async #checkNow(launches: readonly VariantLaunch[], maxBytes: number): Promise<boolean> {
    const unseen = this.#unseen(launches);
    if (unseen.length === 0) return false;
    const record = await (this.#record ??= this.#stored.load());
    const leftOutBefore = this.device.leftOut.size;
    let hasRun = false;
    for (const one of unseen) {
      const text = await textKey(one);
      const known = record.get(text);
      const hasRoom = one.bytes <= maxBytes;
      const finding = known ? { verdict: known } : hasRoom ? await this.#compare(one) : undefined;
      if (!finding) continue;
      this.#seen.add(one.key);
      this.#judge(one, finding);
      record.set(text, finding.verdict);
      hasRun ||= !known;
    }
    if (hasRun) {
      await this.device.wait(this.device.pool.flush());
      await this.#stored.save(record);
    }
    return this.device.leftOut.size > leftOutBefore;
  }

  #unseen(launches: readonly VariantLaunch[]): Unseen[] {
    const unseen = new Map<string, Unseen>();
    for (const run of launches) {
      const variant = appliedVariant(run.launch);
      const key = pipelineKey(run.launch);
      if (!variant || this.#seen.has(key)) continue;
      const bytes = neededBytes(run);
      if (bytes < (unseen.get(key)?.bytes ?? Infinity)) unseen.set(key, { key, variant, run, bytes });
    }
    return [...unseen.values()];
  }

  /** Leaves out a variant that is wrong, or that lacks the portable kernel's bits where tuning promises them. */
  #judge({ key, variant, run }: Unseen, { verdict, fault }: Finding): void {
    const promisesBits = this.device.tuner !== undefined && !this.options.rounding && !variant.rounds;
    if (verdict !== "wrong" && !(verdict === "rounded" && promisesBits)) return;
    this.device.leftOut.add(key);
    // A verdict of the cache was told when it was found.
    if (fault === undefined) return;
    const { device, vendor, description } = this.device.info;
    warn(
      this.options,
      `kernels/${variant.kernel.name}.wgsl (${run.launch.entry}, ${variant.name}) ${fault} on ${device || vendor}, ${description}, and is not used.\n` +
        "Update the driver; `npx safetape doctor --check` checks all kernels, createEngine({ checkKernels: false }) none.",
    );
  }

  /** Undefined where there was no memory for it, or the portable kernel does not compile, which running the plan reports. */
  async #compare({ run, variant }: Unseen): Promise<Finding | undefined> {
    try {
      return await this.device.guard(this.#compareNow(run, variant.half ? HALF_TOLERANCE : ROUNDING));
    } catch (error) {
      if (error instanceof KernelError || error instanceof OutOfMemoryError) return undefined;
      throw error;
    }
  }

  async #compareNow(run: VariantLaunch, tolerance: number): Promise<Finding> {
    const { pipelines, pool } = this.device;
    const [pipeline, ...portable] = await Promise.all([
      pipelines.get(run.launch).catch(kernelError),
      ...portableLaunches(run).map((launch) => pipelines.get(launch)),
    ]);
    if (pipeline instanceof KernelError) return { verdict: "wrong", fault: "does not compile" };
    const scratch = await pool.checked(
      "the comparison of a kernel",
      () => new Scratch(this.device, run.bindings, involved(run)),
    );
    try {
      scratch.write();
      const expected = await this.#results(scratch, run.portable, portable);
      scratch.fill(scratch.written);
      return compared(await this.#results(scratch, [run], [pipeline]), expected, tolerance);
    } finally {
      scratch.dispose();
    }
  }

  /** Runs some launches one after the other. Resolves with what each variable that they write then holds. */
  async #results(
    scratch: Scratch,
    launches: readonly BoundLaunch[],
    pipelines: readonly GPUComputePipeline[],
  ): Promise<ArrayBuffer[]> {
    const encoder = this.device.handle.createCommandEncoder();
    const pass = encoder.beginComputePass();
    launches.forEach((launch, i) => scratch.encode(pass, launch, pipelines[i]!));
    pass.end();
    this.device.handle.queue.submit([encoder.finish()]);
    const results: ArrayBuffer[] = [];
    for (const variable of scratch.written) results.push(await this.device.wait(scratch.read(variable)));
    return results;
  }
}

const portableLaunches = ({ portable: [first, ...others] }: VariantLaunch): [Launch, ...Launch[]] => [
  first.launch,
  ...others.map(({ launch }) => launch),
];

/** The launches whose params are bound. */
const involved = (run: VariantLaunch): [Launch, ...Launch[]] => {
  const [first, ...others] = portableLaunches(run);
  return [first, ...others, ...(run.absorbed?.values() ?? [])];
};

/** Bytes of a launch's buffers, and of the copy of its largest one on its way to the host. */
function neededBytes(run: VariantLaunch): number {
  const copied = Math.max(...run.bindings.map(({ bytes }) => bytes));
  return copied + scratchBytes(run.bindings, involved(run));
}

/** A pipeline by its kernel's name and a digest of the texts that are compared. */
async function textKey({ key, run }: Unseen): Promise<string> {
  const textOf = ({ kernel, constants = {}, entry }: Launch): string => `${entry}\n${withConstants(kernel, constants)}`;
  const launches = [run.launch, ...portableLaunches(run)];
  for (const { kernel } of launches) await kernel.load?.();
  const texts = launches.map(textOf).join("\n");
  return `${key} ${await sha256Hex(new TextEncoder().encode(texts))}`;
}

/** The error itself if it is a kernel's. @throws any other. */
function kernelError(error: unknown): KernelError {
  if (error instanceof KernelError) return error;
  throw error;
}

/** Compares two lists of results, which are f32 where they differ. */
function compared(actual: readonly ArrayBuffer[], expected: readonly ArrayBuffer[], tolerance: number): Finding {
  const pairs = actual.map((data, i) => [data, expected[i]!] as const);
  if (pairs.every(([a, b]) => hasSameBits(a, b))) return { verdict: "equal" };
  const errors = pairs.map(([a, b]) => relativeError(new Float32Array(a), new Float32Array(b)));
  const error = Math.max(...errors);
  // A comparison with NaN is false.
  if (error <= tolerance) return { verdict: "rounded" };
  return { verdict: "wrong", fault: `is wrong by ${error.toPrecision(2)} of its largest result` };
}

function hasSameBits(a: ArrayBuffer, b: ArrayBuffer): boolean {
  const [words, others] = [new Uint32Array(a), new Uint32Array(b)];
  return words.every((word, i) => word === others[i]);
}
