import { ConfigError, DisposedError, ShapeError } from "../base/errors";
import { checkKeys } from "../base/option-keys";
import { shown } from "../base/shown";
import { elements, formatShape } from "../base/shape";
import type { Engine } from "../engine";
import type { Bytes } from "../gpu/ledger";
import type { TensorSpec } from "../op/declaration";
import { ACTIVATION_FORMATS } from "../op/pack";
import type { ActivationFormat } from "../op/pack";
import { optimizerOf } from "../optimizer/adamw";
import type { OptimizerOptions } from "../optimizer/adamw";
import type { Optimizer } from "../optimizer/optimizer";
import { recordUpdate } from "../optimizer/record-update";
import type { TensorGroup } from "../optimizer/settings";
import { UpdateCounts } from "../optimizer/update-counts";
import { Executor } from "../run/executor";
import type { Trace } from "../run/trace";
import { executorBytes } from "../run/footprint";
import { explain } from "../tape/explain";
import type { Explanation } from "../tape/explain";
import { plan, totalFlops } from "../tape/plan";
import type { Plan } from "../tape/plan";
import { reach } from "../tape/reach";
import { Recorder } from "../tape/tape";
import type { Tape, Value } from "../tape/tape";
import type { Tensor, TensorData } from "../tensor";
import { checkBody, checkEngine, checkList, checkWord, isRecord } from "./arguments";
import { asTyped, checkDeclarations, closedInputs, solveDimensions } from "./dimensions";
import type { Dimensions, InputData, InputDeclaration } from "./dimensions";
import { FunctionTensors } from "./function-tensors";
import type { Companions } from "./function-tensors";
import type { ParameterTree } from "./parameters";
import { trace } from "./trace";
import type { Body, BodyResult, OutputName } from "./trace";

export interface FunctionOptions {
  /** How `step` changes the parameters: an optimizer, or options of AdamW. Default AdamW. */
  readonly optimizer?: Optimizer | OptimizerOptions;
  /** Seed of the first values of all parameters. Default 0. */
  readonly seed?: number;
  /** Sections of the body that the backward pass recomputes instead of keeping: names, or all of them. Default none. */
  readonly recompute?: boolean | readonly string[];
  /** How values are stored from the forward to the backward pass. Default f32. */
  readonly activations?: ActivationFormat;
}

export interface CallOptions<Name extends string = string> {
  /** Sizes that the inputs' lengths leave open. */
  readonly dimensions?: Dimensions;
  /** Outputs to copy to the host. Default: all in `run`; those of one number in `valueAndGrad`. */
  readonly outputs?: readonly Name[];
}

export interface GradientOptions<Name extends string = string> extends CallOptions<Name> {
  /** The output to differentiate, of one number. Default: `loss`, or the only output. */
  readonly loss?: Name;
  /** Whether to add to the gradients of earlier calls instead of overwriting them. Default false. */
  readonly accumulate?: boolean;
}

export interface StepOptions<Name extends string = string> extends Omit<GradientOptions<Name>, "outputs"> {
  /** Factor of all learning rates, for a schedule. Default 1. */
  readonly scheduleFactor?: number;
}

/** What a step did. */
export interface StepResult {
  readonly loss: number;
  /** Norm of all gradients together, before clipping. */
  readonly gradientNorm: number;
  /** Whether the parameters changed: they do not where the loss or a gradient is not finite. */
  readonly isApplied: boolean;
}

/** A call whose memory or plan is asked for, before it is made or afterwards. */
export type Call<Name extends string = string> =
  | ({ readonly kind: "run" } & CallOptions<Name>)
  | ({ readonly kind: "valueAndGrad" } & GradientOptions<Name>)
  | ({ readonly kind: "step" } & StepOptions<Name>);

export interface ValueAndGrad<Name extends string = string> {
  readonly loss: number;
  /** Outputs that were copied to the host, in row-major order. */
  readonly outputs: Readonly<Partial<Record<Name, TensorData>>>;
  /** Gradients of the live parameters that the loss depends on, by name, in GPU memory. The next call overwrites them. */
  readonly gradients: ReadonlyMap<string, Tensor>;
}

/** What `freeze` and `thaw` changed. */
export interface LiveChange {
  /** Names of the parameters that changed. */
  readonly parameters: readonly string[];
  /** Bytes that went back to the driver; negative if more are needed now. */
  readonly returnedBytes: number;
}

/** A call with everything that decides its plan. */
interface Program {
  readonly key: string;
  readonly call: Call;
  readonly dimensions: Dimensions;
  readonly tape: Tape;
  readonly outputs: ReadonlyMap<string, Value>;
  /** Name of the output that is differentiated; undefined for a forward pass. */
  readonly loss: string | undefined;
  readonly plan: Plan;
  /** The update that follows in a step. */
  readonly update: { readonly plan: Plan; readonly groups: ReadonlyMap<string, TensorGroup> } | undefined;
}

// The keys of objects rather than lists, so that the compiler says where one is missing.
const FUNCTION_OPTIONS = { optimizer: 0, seed: 0, recompute: 0, activations: 0 } satisfies Record<
  keyof FunctionOptions,
  0
>;
const CALL_OPTIONS = { kind: 0, dimensions: 0, outputs: 0, loss: 0, accumulate: 0, scheduleFactor: 0 } satisfies Record<
  keyof GradientOptions | keyof StepOptions | "kind",
  0
>;

const CALL_KINDS: readonly Call["kind"][] = ["run", "valueAndGrad", "step"];

/** @throws ConfigError for a call of no kind, or with an option that does not exist. */
function checkCall(call: Call): void {
  // A program without types may pass anything.
  const given: unknown = call;
  if (!isRecord(given)) throw new ConfigError(`The call is ${shown(given)}.`, 'Give its kind: { kind: "step" }.');
  checkWord("A call", "its kind", call.kind, CALL_KINDS);
  checkKeys(`A call of ${call.kind}`, call, Object.keys(CALL_OPTIONS));
}

/** @throws ConfigError for an option that does not exist, or a value that it does not take. */
function checkFunctionOptions(options: FunctionOptions): void {
  checkKeys("A function of tensors", options, Object.keys(FUNCTION_OPTIONS));
  const { seed = 0, recompute = false, activations = "f32" } = options;
  checkWord("A function of tensors", "activations", activations, ACTIVATION_FORMATS);
  if (!Number.isSafeInteger(seed)) throw new ConfigError(`The seed is ${shown(seed)}.`, "Give a whole number.");
  if (typeof recompute !== "boolean") checkList("sections to recompute", recompute, '["blocks"], or true for all');
}

/** @throws ConfigError for a section that the body does not have. */
function checkSections(asked: readonly string[], sections: readonly string[]): void {
  const unknown = asked.find((name) => !sections.includes(name));
  if (unknown === undefined) return;
  const remedy =
    sections.length > 0 ? `It has ${sections.join(", ")}.` : `Mark it in the body: scope.section("${unknown}", …).`;
  throw new ConfigError(`The body has no section ${unknown} to recompute.`, remedy);
}

const plansOf = ({ plan, update }: Program): Plan[] => (update ? [plan, update.plan] : [plan]);

/** Names of what a step's update reads and gives. */
const [LOSS, SQUARE_SUM] = ["loss", "square sum"] as const;

/**
 * A function of tensors with parameters of its own: it is traced once for each shape of its inputs, planned, and run. It keeps
 * only what the gradients of its live parameters read, and gives memory back as parameters freeze. Make one with
 * `tensorFunction`. Nothing is allocated before the first call. Calls may overlap; they run one after the other.
 */
export class TensorFunction<
  I extends Readonly<Record<string, InputDeclaration>>,
  P extends ParameterTree,
  R extends BodyResult,
> {
  readonly #tensors: FunctionTensors;
  readonly #executor: Executor;
  /** The calls made so far, by what decides their plans. */
  #programs = new Map<string, Program>();
  readonly #optimizer: Optimizer;
  readonly #updates = new UpdateCounts();
  #queue: Promise<unknown> = Promise.resolve();
  #isDisposed = false;

  constructor(
    private readonly engine: Engine,
    private readonly inputs: I,
    private readonly parameterTree: P,
    private readonly body: Body<I, P, R>,
    private readonly options: FunctionOptions,
  ) {
    checkEngine(engine);
    checkFunctionOptions(options);
    checkDeclarations(inputs);
    checkBody(body);
    this.#optimizer = optimizerOf(options.optimizer);
    this.#tensors = new FunctionTensors(engine, parameterTree, options.seed ?? 0, this.#optimizer);
    this.#executor = new Executor(engine.device);
  }

  /** Names of all parameters, and whether they still learn. */
  get parameters(): ReadonlyMap<string, "live" | "frozen"> {
    return this.#tensors.states;
  }

  /**
   * Runs the function forward. `scope.isTraining` is false in the body.
   * @returns the outputs by name, in row-major order; a body that returns one value has the output `output`.
   * @throws ShapeError for inputs that are missing or do not fit; ConfigError for an output that does not exist; what the body throws.
   */
  run(
    inputs: Readonly<Record<keyof I, InputData>>,
    options: CallOptions<OutputName<R>> = {},
  ): Promise<Readonly<Record<OutputName<R>, TensorData>>> {
    return this.#serially(() => this.#run(inputs, options));
  }

  async #run(
    inputs: Readonly<Record<keyof I, InputData>>,
    options: CallOptions<OutputName<R>>,
  ): Promise<Readonly<Record<OutputName<R>, TensorData>>> {
    const outputs: object = await this.#runProgram(this.#program({ kind: "run", ...options }, inputs), inputs);
    // Every output that was asked for is read.
    return outputs as Readonly<Record<OutputName<R>, TensorData>>;
  }

  /**
   * Runs the function forward and backward.
   * @throws ShapeError for a loss that is not one number; ConfigError for a live parameter that no output of one number depends
   * on; as `run`.
   */
  valueAndGrad(
    inputs: Readonly<Record<keyof I, InputData>>,
    options: GradientOptions<OutputName<R>> = {},
  ): Promise<ValueAndGrad<OutputName<R>>> {
    return this.#serially(() => this.#valueAndGrad(inputs, options));
  }

  async #valueAndGrad(
    inputs: Readonly<Record<keyof I, InputData>>,
    options: GradientOptions<OutputName<R>>,
  ): Promise<ValueAndGrad<OutputName<R>>> {
    const program = this.#program({ kind: "valueAndGrad", ...options }, inputs);
    const outputs = await this.#runProgram(program, inputs);
    const gradients = new Map([...program.plan.gradients.keys()].map((name) => [name, this.#tensors.gradient(name)]));
    // The outputs that were asked for, which all have names of the body.
    return {
      loss: outputs[program.loss!]![0]!,
      outputs: outputs as ValueAndGrad<OutputName<R>>["outputs"],
      gradients,
    };
  }

  /**
   * One step of the optimizer: forward, backward and update in one submission.
   * @throws ConfigError where no parameter is live; as `valueAndGrad`.
   */
  step(inputs: Readonly<Record<keyof I, InputData>>, options: StepOptions<OutputName<R>> = {}): Promise<StepResult> {
    return this.#serially(() => this.#step(inputs, options));
  }

  async #step(
    inputs: Readonly<Record<keyof I, InputData>>,
    { scheduleFactor, ...call }: StepOptions<OutputName<R>>,
  ): Promise<StepResult> {
    if (scheduleFactor !== undefined && !(scheduleFactor >= 0 && scheduleFactor < Infinity)) {
      throw new ConfigError(`The scheduleFactor is ${shown(scheduleFactor)}.`, "Give a finite number from 0.");
    }
    const program = this.#program({ kind: "step", ...call }, inputs);
    await this.#holdAlso(program);
    const store = this.#tensors;
    const { plan: update, groups } = program.update!;
    const pass = { output: program.loss!, to: update, input: LOSS };
    const updateInputs = () => this.#updates.inputs(this.#optimizer, groups, scheduleFactor);
    const outputs = await this.#executor.runAll([
      { plan: program.plan, store, inputs: () => this.#typed(program, inputs), pass },
      { plan: update, store, inputs: updateInputs, isUpdate: true },
    ]);
    const [loss, squareSum] = [outputs.get(LOSS)![0]!, outputs.get(SQUARE_SUM)![0]!];
    const isApplied = Number.isFinite(loss) && Number.isFinite(squareSum);
    if (isApplied) this.#updates.count(groups);
    return { loss, gradientNorm: Math.sqrt(squareSum), isApplied };
  }

  /**
   * GPU bytes by lifetime that this function occupies after a call, in addition to the calls made so far: exact, and known
   * before anything is allocated. Without a call: what it occupies now, which equals its share of the ledger.
   */
  predictedBytes(call?: Call<OutputName<R>>): Bytes {
    const asked = call ? [this.#programOf(call, call.dimensions ?? {})] : [];
    const programs = new Map([...this.#programs, ...asked.map((program) => [program.key, program] as const)]);
    const plans = executorBytes([...programs.values()].flatMap(plansOf));
    return { ...plans, ...this.#tensors.bytes(call && companionsOf([...programs.values()])) };
  }

  /** What a call keeps from the forward to the backward pass, and for which gradient. */
  explain(call: Omit<Extract<Call<OutputName<R>>, { kind: "valueAndGrad" }>, "kind"> = {}): Explanation {
    const program = this.#programOf({ kind: "valueAndGrad", ...call }, call.dimensions ?? {});
    return explain(program.tape, program.plan);
  }

  /** Shapes and types of the outputs that a call copies to the host, by name. */
  outputs(call: Call<OutputName<R>>): ReadonlyMap<string, TensorSpec> {
    return this.#programOf(call, call.dimensions ?? {}).outputs;
  }

  /** Floating-point operations of a call. */
  flops(call: Call<OutputName<R>>): number {
    return totalFlops(this.#programOf(call, call.dimensions ?? {}).plan);
  }

  /**
   * Freezes parameters: plans every call again, and returns to the driver the memory that only their gradients needed.
   * @param names parameters, or the beginning of their paths: `blocks.0` freezes all below it.
   * @throws ConfigError for a name that no parameter has.
   */
  freeze(names: readonly string[]): Promise<LiveChange> {
    return this.#serially(() => this.#change(this.#tensors.matching(names, "live"), "frozen"));
  }

  /** Lets frozen parameters learn again. Throws as `freeze` does; ConfigError for one that is packed or that the caller owns. */
  thaw(names: readonly string[]): Promise<LiveChange> {
    return this.#serially(() => this.#change(this.#tensors.matching(names, "frozen"), "live"));
  }

  async #change(parameters: readonly string[], state: "live" | "frozen"): Promise<LiveChange> {
    const { ledger } = this.engine;
    const before = ledger.liveBytes;
    const earlier = this.#programs;
    this.#tensors.set(parameters, state);
    // A step that has nothing left to learn is no longer held.
    const learns = ({ update, plan }: Program): boolean =>
      !update || [...plan.gradients.keys()].some((name) => this.#tensors.live.has(name));
    const calls = [...this.#programs.values()].filter(learns);
    this.#programs = new Map();
    try {
      const programs = calls.map(({ call, dimensions }) => this.#programOf(call, dimensions));
      this.#programs = new Map(programs.map((program) => [program.key, program]));
    } catch (error) {
      // Only what learns again may be refused, if no loss depends on it: nothing has changed then.
      this.#tensors.set(parameters, "frozen");
      this.#programs = earlier;
      throw error;
    }
    await this.#hold(this.#programs);
    return { parameters, returnedBytes: before - ledger.liveBytes };
  }

  /**
   * Runs a call, dispatch by dispatch, with the time of each: `String(trace)` is a table.
   * @param call what to run, and with which options.
   */
  trace(call: Call<OutputName<R>>, inputs: Readonly<Record<keyof I, InputData>>): Promise<Trace> {
    return this.#serially(async () => {
      checkCall(call);
      const { trace } = await this.#executor.trace(async () => {
        if (call.kind === "run") await this.#run(inputs, call);
        else if (call.kind === "step") await this.#step(inputs, call);
        else await this.#valueAndGrad(inputs, call);
      });
      return trace;
    });
  }

  /** Copies a parameter to the host. @throws ConfigError for a name that no parameter has. */
  read(name: string): Promise<Float32Array> {
    return this.#serially(async () => (await this.#tensors.opened(name)).read());
  }

  /** Overwrites a parameter. @throws ConfigError for a name that no parameter has, ShapeError for another number of values. */
  write(name: string, data: Float32Array): Promise<void> {
    return this.#serially(async () => (await this.#tensors.opened(name)).write(data));
  }

  /** Returns all memory, but for tensors that the caller passed as parameters. Await running calls first. Further calls do nothing. */
  dispose(): void {
    this.#isDisposed = true;
    this.#programs.clear();
    this.#executor.dispose();
    this.#tensors.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #serially<T>(body: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(() => {
      if (!this.#isDisposed) return body();
      throw new DisposedError("This function is disposed.", "Make a new one with tensorFunction().");
    });
    this.#queue = result.catch(() => undefined);
    return result;
  }

  #program(call: Call, inputs: Readonly<Record<string, InputData>>): Program {
    // A program without types may leave them out.
    const given: unknown = inputs;
    const known = Object.keys(this.inputs).join(", ");
    if (!isRecord(given)) {
      throw new ConfigError(`The inputs of the call are ${shown(given)}.`, `Give each by its name: { ${known} }.`);
    }
    const unknown = Object.keys(inputs).find((name) => !(name in this.inputs));
    if (unknown !== undefined) {
      throw new ConfigError(`The function has no input ${unknown}.`, `It has ${known}.`);
    }
    return this.#programOf(call, solveDimensions(this.inputs, inputs, call.dimensions));
  }

  #programOf(call: Call, dimensions: Dimensions): Program {
    checkCall(call);
    const isGradient = call.kind !== "run";
    const adds = isGradient && (call.accumulate ?? false);
    const asked = call.kind === "step" ? [] : call.outputs;
    const key = JSON.stringify([
      call.kind,
      Object.entries(dimensions).sort(([a], [b]) => (a < b ? -1 : 1)),
      asked,
      isGradient && call.loss,
      adds,
    ]);
    const known = this.#programs.get(key);
    if (known) return known;
    const specs = closedInputs(this.inputs, dimensions);
    const traced = trace(specs, this.parameterTree, this.body, isGradient);
    const loss = isGradient ? lossOf(traced.outputs, call.loss) : undefined;
    const outputs = chosenOutputs(traced.outputs, asked, loss);
    const live = this.#tensors.live;
    const { recorder } = traced;
    if (loss !== undefined) checkReach(recorder, traced.outputs, live);
    const { recompute = false, activations = "f32" } = this.options;
    if (isGradient && typeof recompute !== "boolean") checkSections(recompute, traced.sections);
    const planned = plan(recorder, {
      outputs: Object.fromEntries(outputs),
      ...(loss !== undefined && {
        loss: traced.outputs.get(loss)!,
        trainable: live,
        addToGradients: adds,
        activations,
        recompute: new Set(recompute === true ? traced.sections : recompute === false ? [] : recompute),
      }),
      limits: this.engine.device.limits,
    });
    if (call.kind === "step") checkLearns(planned);
    const update = call.kind === "step" ? this.#updateOf(planned) : undefined;
    return { key, call, dimensions, tape: recorder, outputs, loss, plan: planned, update };
  }

  #updateOf({ gradients }: Plan): Program["update"] {
    const recorder = new Recorder();
    const loss = recorder.input(LOSS, [1]);
    const { total, groups } = recordUpdate(recorder, gradients, this.#optimizer, loss);
    const outputs = { [LOSS]: loss, [SQUARE_SUM]: total };
    const { limits } = this.engine.device;
    return { plan: plan(recorder, { outputs, effects: true, staged: true, limits }), groups };
  }

  async #hold(programs: ReadonlyMap<string, Program>): Promise<void> {
    await this.#tensors.open(companionsOf([...programs.values()]));
    await this.#executor.hold([...programs.values()].flatMap(plansOf));
  }

  async #holdAlso(program: Program): Promise<void> {
    if (plansOf(program).every((held) => this.#executor.holds(held))) return;
    const programs = new Map([...this.#programs, [program.key, program]]);
    await this.#hold(programs);
    this.#programs = programs;
  }

  #typed(program: Program, inputs: Readonly<Record<string, InputData>>): Record<string, TensorData> {
    const data = [...closedInputs(this.inputs, program.dimensions)].map(([name, { dtype }]) => {
      return [name, asTyped(name, inputs[name]!, dtype)] as const;
    });
    return Object.fromEntries(data);
  }

  async #runProgram(
    program: Program,
    inputs: Readonly<Record<string, InputData>>,
  ): Promise<Record<string, TensorData>> {
    await this.#holdAlso(program);
    const results = await this.#executor.run(program.plan, this.#tensors, this.#typed(program, inputs));
    return Object.fromEntries(
      [...program.outputs].map(([name, { dtype }]) => [name, reinterpreted(results.get(name)!, dtype)]),
    );
  }
}

/**
 * A function of tensors with parameters of its own.
 * @param inputs shapes of what each call gives, by name: `{ x: ["batch", 2], labels: { shape: ["batch"], dtype: "i32" } }`.
 * @param parameters what the function owns: initial values such as `normal([32, 2])`, or tensors of the caller, in records and
 * arrays of any depth.
 * @param body records the function, given the symbolic values of both. It returns one value, or several by name.
 * @throws ConfigError for a value that is not an engine, something in the tree that is not a parameter, an input without a shape, a body that is not a function, and an
 * option that does not exist or has a wrong value.
 */
export function tensorFunction<
  const I extends Readonly<Record<string, InputDeclaration>>,
  P extends ParameterTree,
  R extends BodyResult,
>(
  engine: Engine,
  inputs: I,
  parameters: P,
  body: Body<I, P, R>,
  options: FunctionOptions = {},
): TensorFunction<I, P, R> {
  return new TensorFunction(engine, inputs, parameters, body, options);
}

/** What live parameters have besides their values where these calls are held. */
function companionsOf(programs: readonly Program[]): Companions {
  if (programs.some(({ update }) => update)) return "gradients and state";
  return programs.some(({ loss }) => loss !== undefined) ? "gradients" : "nothing";
}

function lossOf(outputs: ReadonlyMap<string, Value>, asked: string | undefined): string {
  const name = asked ?? (outputs.size === 1 ? [...outputs.keys()][0]! : "loss");
  const loss = outputs.get(name);
  if (!loss) {
    throw new ConfigError(
      `The function has no output ${name} to differentiate.`,
      `Name the loss: { loss: ${[...outputs.keys()].map((each) => JSON.stringify(each)).join(" or ")} }.`,
    );
  }
  if (elements(loss.shape) === 1 && loss.dtype === "f32") return name;
  throw new ShapeError(
    `The output ${name} is ${loss.dtype} ${formatShape(loss.shape)}, and a loss is one number.`,
    "Reduce it in the body, with mean(), sum() or a loss function.",
  );
}

function chosenOutputs(
  outputs: ReadonlyMap<string, Value>,
  asked: readonly string[] | undefined,
  loss: string | undefined,
): Map<string, Value> {
  if (asked) checkList("outputs", asked, '["logits"]');
  const unknown = asked?.find((name) => !outputs.has(name));
  if (unknown !== undefined) {
    throw new ConfigError(`The function has no output ${unknown}.`, `It has ${[...outputs.keys()].join(", ")}.`);
  }
  const isChosen = (name: string, value: Value): boolean =>
    asked?.includes(name) ?? (loss === undefined || elements(value.shape) === 1);
  return new Map([...outputs].filter(([name, value]) => name === loss || isChosen(name, value)));
}

/** @throws ConfigError if no output of one number depends on a live parameter. */
function checkReach(tape: Tape, outputs: ReadonlyMap<string, Value>, live: ReadonlySet<string>): void {
  const losses = [...outputs.values()].filter(({ shape }) => elements(shape) === 1);
  const reached = new Set(losses.flatMap((loss) => [...reach(tape, loss, live)]));
  const names = new Set(
    [...reached].flatMap((id) => {
      const { origin } = tape.values[id]!;
      return origin.kind === "parameter" ? [origin.name] : [];
    }),
  );
  const unreached = [...live].filter((name) => !names.has(name));
  if (unreached.length === 0) return;
  throw new ConfigError(
    `No gradient reaches ${unreached.join(", ")}: no loss depends on ${unreached.length > 1 ? "them" : "it"}.`,
    "Use every parameter in the body, through ops with gradients, or freeze it.",
  );
}

/** @throws ConfigError for a step without a gradient. */
function checkLearns({ gradients }: Plan): void {
  if (gradients.size > 0) return;
  throw new ConfigError(
    "A step of the function changes nothing: all parameters on which the loss depends are frozen.",
    "Call run() or valueAndGrad(), or thaw() some of them.",
  );
}

/** Bits that were read as floats, as the numbers that they are. */
function reinterpreted(data: Float32Array, dtype: TensorSpec["dtype"]): TensorData {
  if (dtype === "i32") return new Int32Array(data.buffer, data.byteOffset, data.length);
  if (dtype === "u32") return new Uint32Array(data.buffer, data.byteOffset, data.length);
  return data;
}
