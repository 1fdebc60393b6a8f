import { KernelError } from "../base/errors";
import { HALF_TOLERANCE } from "../base/relative-error";
import { Device } from "../gpu/device";
import { kernelInterface } from "../gpu/wgsl";
import type { Attributes, OpCase, TestedOp } from "../op/declaration";
import type { Launch } from "../op/launch";
import type { Plan, Target } from "../tape/plan";
import { planCase } from "./case-plan";
import { casesOf, chooseCases } from "./choose-cases";
import type { CheckedCase } from "./choose-cases";
import { CaseReference, GRADIENT_TOLERANCE, TOLERANCE } from "./case-reference";
import { planRun, runCase } from "./run-case";
import type { CaseOptions, CaseRun } from "./run-case";
import { VariantWalk } from "./variant-walk";
import type { NotedVariant } from "./variant-walk";

/** A result of an op's case that is not what its reference says. */
export interface WrongResult {
  readonly op: string;
  readonly case: string;
  /** Name of the variant, or "portable". */
  readonly variant: string;
  /** The entries that may be at fault: for a variant those in which it ran, else those that the result depends on. */
  readonly entries: readonly string[];
  /** An output, a changed input, or the gradient `dx` of input `x`. Undefined where a kernel did not compile. */
  readonly result?: string;
  /** Relative error, and the largest that is allowed. */
  readonly error?: number;
  readonly allowed?: number;
  /** Why a kernel did not compile. */
  readonly refusal?: string;
}

/** What a check found on an adapter. */
export interface CheckResult {
  readonly cases: number;
  /** Entries that ran, behind their kernels' names. */
  readonly entries: readonly string[];
  /** Variants that ran in addition to the portable kernels, each as "kernel: name". */
  readonly variants: readonly string[];
  readonly wrong: readonly WrongResult[];
  /** What was left out since its case had taken too long, each as "op, case: variant". */
  readonly leftOut: readonly string[];
  /** Cases that did not run, since others run the same entries with the same constants but sizes of heads, each as "op, case". */
  readonly similar: readonly string[];
}

export interface CheckOptions {
  /**
   * Whether only variants that the adapter runs by default are compared, those only in the first case with a new tile, entry,
   * option or format, and cases are left out that would compile kernels for other sizes of heads alone (`chooseCases`). Default false.
   */
  readonly usualOnly?: boolean;
  readonly onProgress?: (done: number, total: number) => void;
  /** Milliseconds after which a case begins no further variant. Default: no limit. */
  readonly caseMilliseconds?: number;
  /** Gets what was found before each case, and the cases that are still to come. The check waits for it. */
  readonly beforeCase?: (soFar: CheckResult, cases: readonly string[]) => Promise<void>;
}

/** What a check needs of an engine's device. */
export type CheckedDevice = Pick<Device, "handle" | "info" | "waiting">;

/**
 * Runs the cases of ops on an adapter, forward and all gradients, with the portable kernels, in place too, and with every variant that
 * the adapter can run, and compares all results with the float64 references.
 * @param devices a device, or two of the same adapter, of which one takes the first of the cases that are left and the other the last:
 *   a software adapter compiles a kernel when it first runs, on one thread of the device that runs it.
 * @throws DeviceError when a device is lost.
 */
export async function checkOps(
  devices: CheckedDevice | readonly [CheckedDevice, CheckedDevice],
  ops: readonly TestedOp[],
  { usualOnly = false, onProgress, caseMilliseconds = Infinity, beforeCase }: CheckOptions = {},
): Promise<CheckResult> {
  const covered = new Set<string>();
  // The caller closes the GPU's devices, so these second views of them are not closed.
  const [first, second] = ("handle" in devices ? [devices] : devices).map(({ handle, info, waiting }) => {
    const walk = new VariantWalk(info, !usualOnly, usualOnly ? "usual" : "all", covered);
    return { walk, device: new Device(handle, info, { variants: walk.choose, waiting }) };
  });
  const { chosen: cases, leftOut: similar } = usualOnly
    ? chooseCases(ops, first!.device, first!.walk)
    : { chosen: casesOf(ops), leftOut: [] };
  const entries = new Set<string>();
  const variants = new Set<string>();
  const wrong: WrongResult[] = [];
  const leftOut: string[] = [];
  const soFar = (): CheckResult => {
    return {
      cases: cases.length,
      entries: [...entries].sort(),
      variants: [...variants].sort(),
      wrong,
      leftOut,
      similar: similar.map(nameOf),
    };
  };
  const checkCase = async ({ device, walk }: CaseRunner, [op, test]: CheckedCase): Promise<void> => {
    const start = performance.now();
    const reference = new CaseReference(op, test);
    const check = async (
      variant: string,
      {
        half = false,
        places,
        running = reference.differentiation,
      }: Partial<NotedVariant> & { readonly running?: CaseOptions } = {},
    ): Promise<void> => {
      const least = half ? HALF_TOLERANCE : 0;
      const faults = await wrongResults(device, op, test, reference, running, least, (run) => {
        for (const { launch } of run.plan.launches) entries.add(placeOf(launch));
      });
      for (const fault of faults) {
        wrong.push({
          op: op.name,
          case: test.name,
          variant,
          ...fault,
          ...(places && { entries: [...places].sort() }),
        });
      }
    };
    await walk.run(
      () => check("portable"),
      async (name, noted) => {
        if (performance.now() - start > caseMilliseconds) {
          leftOut.push(`${op.name}, ${test.name}: ${name}`);
          return;
        }
        for (const place of noted.places) {
          entries.add(place);
          variants.add(`${kernelOf(place)}: ${name}`);
        }
        await check(name, noted);
      },
    );
    const entriesOf = (running: CaseOptions): string[] =>
      planRun(op, test, running, device.limits).planned.launches.map(({ launch }) => placeOf(launch));
    const kernels = new Set(entriesOf(reference.differentiation).map(kernelOf));
    // Entries that compute in place run only where inputs are activations: forward too, if no gradient reads what they overwrite.
    for (const differentiation of [reference.differentiation, {}]) {
      const running = { ...differentiation, throughActivations: true };
      const added = entriesOf(running).filter((place) => kernels.has(kernelOf(place)) && !entries.has(place));
      if (added.length === 0) continue;
      for (const place of added) entries.add(place);
      await walk.runPortable(() => check("portable", { running }));
    }
  };
  const toCome = [...cases];
  const takeFrom = async (runner: CaseRunner, take: () => CheckedCase | undefined): Promise<void> => {
    while (toCome.length > 0) {
      onProgress?.(cases.length - toCome.length, cases.length);
      await beforeCase?.(soFar(), toCome.map(nameOf));
      const next = take();
      if (next) await checkCase(runner, next);
    }
  };
  await Promise.all([
    takeFrom(first!, () => toCome.shift()),
    ...(second ? [takeFrom(second, () => toCome.pop())] : []),
  ]);
  return soFar();
}

/** A device and what chooses its kernels. */
interface CaseRunner {
  readonly device: Device;
  readonly walk: VariantWalk;
}

const nameOf = ([op, test]: CheckedCase): string => `${op.name}, ${test.name}`;

/** An entry behind its kernel's name. */
const placeOf = ({ kernel, entry }: Launch): string => `${kernel.name}.${entry}`;

/** The kernel of `placeOf`. */
const kernelOf = (place: string): string => place.split(".", 1)[0]!;

type Fault = Omit<WrongResult, "op" | "case" | "variant">;

async function wrongResults(
  device: Device,
  op: TestedOp,
  test: OpCase<Attributes>,
  reference: CaseReference,
  options: CaseOptions,
  leastTolerance: number,
  onRun: (run: CaseRun) => void,
): Promise<Fault[]> {
  try {
    const run = await runCase(device, op, test, reference.inputs, options);
    onRun(run);
    const { tolerance = TOLERANCE } = test;
    const gradientErrors = options.trainable ? reference.gradientErrors(run) : [];
    const results = [
      ...reference
        .forwardErrors(run)
        .map(([slot, error]) => ({ result: slot, error, allowed: Math.max(tolerance, leastTolerance) })),
      ...gradientErrors.map(([slot, error]) => ({
        result: `d${slot}`,
        error,
        allowed: Math.max(GRADIENT_TOLERANCE, leastTolerance),
      })),
    ];
    // A comparison with NaN is false.
    const wrong = results.filter(({ error, allowed }) => !(error < allowed));
    return wrong.map((fault) => ({ ...fault, entries: entriesBehind(run.plan, fault.result) }));
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    return [
      { entries: [...new Set(planCase(op, test).launches.map(({ launch }) => placeOf(launch)))], refusal: error.fact },
    ];
  }
}

/** The entries that a result of a plan depends on, in the order in which they ran. */
function entriesBehind({ launches, outputs }: Plan, result: string): string[] {
  const output = outputs.get(result);
  const isResult = (target: Target): boolean => {
    if (target.kind === "gradient") return `d${target.name}` === result;
    return target.kind === "parameter" ? target.name === result : target.index === output?.buffer;
  };
  const keyOf = (target: Target): string | number =>
    target.kind === "buffer" ? target.index : `${target.kind} ${target.name}`;
  const needed = new Set<string | number>();
  const entries = new Set<string>();
  for (const { launch, bindings } of [...launches].reverse()) {
    const { bindings: declared } = kernelInterface(launch.kernel);
    const written = bindings.filter(({ variable }) => declared.get(variable)?.writable);
    if (!written.some(({ target }) => isResult(target) || needed.has(keyOf(target)))) continue;
    entries.add(placeOf(launch));
    for (const { target } of bindings) needed.add(keyOf(target));
  }
  return [...entries].reverse();
}
