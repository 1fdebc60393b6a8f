import { DeviceError, KernelError, SafetapeError, ConfigError } from "../base/errors";
import { relativeError } from "../base/relative-error";
import type { Engine } from "../engine";
import type { Device } from "../gpu/device";
import type { Attributes, MalformedCase, Op, OpCase, TestedOp } from "../op/declaration";
import type { Limits } from "../op/limits";
import { Recorder } from "../tape/tape";
import { planCase } from "./case-plan";
import { CaseReference, GRADIENT_TOLERANCE, TOLERANCE } from "./case-reference";
import { checkOps } from "./check-variants";
import { onView } from "./device-view";
import { withTests } from "./ops";
import { runCase } from "./run-case";
import type { CaseRun } from "./run-case";

/** Limits so small that cases of some thousand elements are split over bindings and over two dimensions of the grid. */
export const NARROW_LIMITS: Pick<Limits, "bindingBytes" | "workgroupsPerDimension"> = {
  bindingBytes: 20480,
  workgroupsPerDimension: 3,
};

/** Maximum error of a gradient, where some inputs are frozen, relative to the same gradient where none is. */
const SUBSET_TOLERANCE = 1e-6;

/** Something that is wrong with an op. */
export interface OpProblem {
  readonly op: string;
  /** Name of the case. */
  readonly case: string;
  /**
   * `output`: not what the reference computes. `gradient`: not its derivative, by finite differences along a random direction.
   * `subset`: another result where some inputs are frozen. `split bindings`: another result where bindings and grids are
   * limited to `NARROW_LIMITS`. `variant`: a variant of a kernel is wrong. `malformed`: an input that is not refused as declared.
   * `failure`: the op, its kernel or its reference throws.
   */
  readonly what: "output" | "gradient" | "subset" | "split bindings" | "variant" | "malformed" | "failure";
  /** An output, a changed input, or the gradient `dx` of input `x`. */
  readonly result?: string;
  /** Relative error, and the largest that is allowed. */
  readonly error?: number;
  readonly allowed?: number;
  /** The problem as a sentence, with all of that. */
  readonly text: string;
}

/** Errors of results, by their names. */
type Errors = readonly (readonly [result: string, error: number])[];

/** Collects the problems of one case. */
class Problems {
  readonly list: OpProblem[] = [];

  constructor(
    private readonly op: Op,
    private readonly test: Pick<OpCase<Attributes>, "name">,
  ) {}

  add(what: OpProblem["what"], fact: string, details: Pick<OpProblem, "result" | "error" | "allowed"> = {}): void {
    const [op, name] = [this.op.name, this.test.name];
    this.list.push({ op, case: name, what, ...details, text: `${op}, "${name}": ${fact}` });
  }

  /** Adds every error that is not below `allowed`. */
  compare(what: OpProblem["what"], errors: Errors, allowed: number, than: string): void {
    for (const [result, error] of errors) {
      // A comparison with NaN is false.
      if (error < allowed) continue;
      const fact = `${result} differs from ${than} by ${error.toExponential(1)}, allowed ${allowed.toExponential(1)}`;
      this.add(what, fact, { result, error, allowed });
    }
  }
}

/**
 * Checks an op on all of its cases but those for benches: outputs against its float64 reference, every gradient against finite differences
 * of the reference along a random direction, gradients again for every subset of frozen inputs, as parameters and as
 * activations, everything again with bindings and grids so small that they are split, every variant of its kernels that the adapter
 * runs (on software adapters those that it runs by default), and that malformed inputs are refused. An op of this library, or one of
 * its name, has the library's reference and cases where it has none of its own.
 * @returns what is wrong; nothing if the op is right.
 * @throws ConfigError for a value that is not an op, or an op without a reference or cases, DeviceError when the device is lost.
 */
export async function checkOp(engine: Engine, op: Op): Promise<OpProblem[]> {
  const tested = testedOp(op);
  const { device } = engine;
  const tests = tested.cases.filter(({ bench }) => !bench);
  const problems = tested.malformed.flatMap((test) => malformedProblems(tested, test));
  const ofCases = await onView(device, { limits: NARROW_LIMITS }, async (narrow) => {
    const all: OpProblem[] = [];
    for (const test of tests) all.push(...(await caseProblems(device, narrow, tested, test)));
    return all;
  });
  problems.push(...ofCases);
  const hasFailed = problems.some(({ what }) => what === "failure");
  if (!hasFailed && tests.some((test) => hasVariants(tested, test)))
    problems.push(...(await variantProblems(device, tested)));
  return problems;
}

/** @throws ConfigError for an op without a reference or cases. */
function testedOp(given: Op): TestedOp {
  const op = withTests(given);
  const { name, cases = [], malformed = [] } = op;
  if (!op.reference) {
    throw new ConfigError(
      `The op ${name} has no reference.`,
      "Give it one: its forward pass in float64, in plain loops.",
    );
  }
  if (cases.every(({ bench }) => bench)) {
    const remedy = "Give it some: names, attributes and shapes of inputs, without `bench`.";
    throw new ConfigError(`The op ${name} has no cases to be checked on.`, remedy);
  }
  return { ...op, reference: (inputs, attributes) => op.reference!(inputs, attributes), cases, malformed };
}

/**
 * The problems of one case, except for those of variants.
 * @param narrow a view of the device with `NARROW_LIMITS`.
 */
export async function caseProblems(
  device: Device,
  narrow: Device,
  op: TestedOp,
  test: OpCase<Attributes>,
): Promise<OpProblem[]> {
  const problems = new Problems(op, test);
  try {
    await findProblems(device, narrow, op, test, problems);
  } catch (error) {
    // A kernel that does not compile is the op's fault, other news of the device are not.
    if (error instanceof DeviceError && !(error instanceof KernelError)) throw error;
    const fact = error instanceof SafetapeError ? error.fact : error instanceof Error ? error.message : String(error);
    problems.add("failure", fact);
  }
  return problems.list;
}

async function findProblems(
  device: Device,
  narrow: Device,
  op: TestedOp,
  test: OpCase<Attributes>,
  problems: Problems,
): Promise<void> {
  const reference = new CaseReference(op, test);
  const { tolerance = TOLERANCE } = test;
  const { inputs, trainable: slots, dy, differentiation } = reference;
  const all = await runCase(device, op, test, inputs, differentiation);
  problems.compare("output", reference.forwardErrors(all), tolerance, "the reference");
  const errors = reference.gradientErrors(all).map(([slot, error]) => [`d${slot}`, error] as const);
  problems.compare("gradient", errors, GRADIENT_TOLERANCE, "finite differences of the reference");
  const gradientErrors = (run: CaseRun, trainable: readonly string[]): Errors =>
    trainable.map((slot) => {
      const [gradient, expected] = [run.gradients.get(slot), all.gradients.get(slot)];
      return [`d${slot}`, gradient && expected ? relativeError(gradient, expected) : Infinity];
    });
  for (const trainable of subsets(slots)) {
    for (const throughActivations of trainable.length > 0 ? [false, true] : [false]) {
      // This is how the gradients above were computed.
      if (trainable.length === slots.length && !throughActivations) continue;
      const run = await runCase(device, op, test, inputs, { trainable, dy, throughActivations });
      const live = `with ${trainable.join(", ") || "nothing"} live${throughActivations ? " as activations" : ""}`;
      problems.compare("subset", reference.forwardErrors(run), tolerance, `the reference ${live}`);
      const unwanted = [...run.gradients.keys()].filter((slot) => !trainable.includes(slot));
      for (const slot of unwanted) problems.add("subset", `d${slot} is computed ${live}`, { result: `d${slot}` });
      problems.compare(
        "subset",
        gradientErrors(run, trainable),
        SUBSET_TOLERANCE,
        `that with all inputs live, ${live}`,
      );
    }
  }
  const { bindingBytes, workgroupsPerDimension } = narrow.limits;
  const limited = `with bindings of ${bindingBytes} bytes and ${workgroupsPerDimension} workgroups a dimension`;
  const alone = await runCase(narrow, op, test, inputs);
  problems.compare("split bindings", reference.forwardErrors(alone), tolerance, `the reference ${limited}`);
  if (slots.length === 0) return;
  const split = await runCase(narrow, op, test, inputs, { trainable: slots, dy });
  problems.compare("split bindings", reference.forwardErrors(split), tolerance, `the reference ${limited}`);
  problems.compare("split bindings", gradientErrors(split, slots), TOLERANCE, `that without limits, ${limited}`);
}

function subsets(slots: readonly string[]): string[][] {
  return slots.reduce<string[][]>((all, slot) => [...all, ...all.map((set) => [...set, slot])], [[]]);
}

function malformedProblems(op: TestedOp, test: MalformedCase<Attributes>): OpProblem[] {
  const problems = new Problems(op, test);
  const recorder = new Recorder();
  const inputs = Object.fromEntries(
    Object.entries(test.inputs).map(([slot, { shape, dtype }]) => [slot, recorder.input(slot, shape, dtype)]),
  );
  try {
    recorder.record(op, inputs, test.attributes);
    problems.add("malformed", "the inputs are not refused");
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    if (!test.message.test(message)) {
      problems.add("malformed", `the refusal "${message.split("\n", 1)[0]}" does not match ${String(test.message)}`);
    }
  }
  return problems.list;
}

const hasVariants = (op: TestedOp, test: OpCase<Attributes>): boolean =>
  planCase(op, test).launches.some(({ launch: { variants = [] } }) => variants.length > 0);

/** The problems of variants; what is wrong with the portable kernels is known already. */
async function variantProblems(device: Device, op: TestedOp): Promise<OpProblem[]> {
  const { wrong } = await onView(device, {}, (view) => checkOps(view, [op], { usualOnly: device.info.isSoftware }));
  return wrong
    .filter(({ variant }) => variant !== "portable")
    .flatMap(({ case: name, variant, entries, result = "", error = NaN, allowed = NaN, refusal }) => {
      const problems = new Problems(op, { name });
      const by = `by the variant ${variant} of ${entries.join(", ")}`;
      if (refusal === undefined) problems.compare("variant", [[result, error]], allowed, `the reference ${by}`);
      else problems.add("variant", `${refusal} (${by})`);
      return problems.list;
    });
}
