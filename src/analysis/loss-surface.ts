import { DataError } from "../base/errors";
import type { Batch } from "../data/batch";
import { shapeKey, shapeOf } from "../model/model";
import type { TensorSpec } from "../op/declaration";
import { Executor } from "../run/executor";
import type { Inputs } from "../run/executor";
import { gradientName } from "../train/tensors/names";
import { plan } from "../tape/plan";
import type { Plan } from "../tape/plan";
import { batchInputs, countedLabels } from "../train/plans/inputs";
import { checkTrainable, trainableSpecs } from "../train/tensors/specs";
import { TrainableTensors } from "../train/tensors/trainable-tensors";
import { trace } from "../train/plans/trace";
import type { Subject } from "./subject";
import { VectorLayout } from "./vector";

/**
 * Tensors that the loss is a function of, frozen or not: all trained tensors ("all"), these without the task's head
 * ("adapter"), or those that a function selects by name.
 */
export type LossVariables = "adapter" | "all" | ((name: string) => boolean);

export interface SurfaceOptions {
  /** Batches that define the loss: its mean over all their labels. */
  readonly batches: Iterable<Batch>;
  readonly over: LossVariables;
  /** Whether `gradient` will be called. */
  readonly differentiable: boolean;
}

/** The part of an evaluation that belongs to one batch. */
interface BatchRun {
  readonly plan: Plan;
  readonly inputs: Inputs;
}

/**
 * The loss of a fine-tuned model as a function of its trained tensors, with fixed batches and without dropout. It works on
 * copies of the tensors and does not change the state of a trainer. Dispose of it when done.
 */
export class LossSurface {
  private constructor(
    readonly layout: VectorLayout,
    /** The values of the subject, [layout.size]. */
    readonly origin: Float32Array,
    private readonly runs: readonly BatchRun[],
    private readonly executor: Executor,
    private readonly state: TrainableTensors,
    private readonly subject: Subject,
  ) {}

  /**
   * Plans the evaluation and allocates its memory.
   * @throws ConfigError for missing tensors or without variables, DataError without batches, DeviceError if there is not
   * enough memory.
   */
  static async open(subject: Subject, options: SurfaceOptions): Promise<LossSurface> {
    const { model: loaded, adapter, tensors } = subject;
    const batches = [...options.batches];
    if (batches.length === 0) throw new DataError("There are no batches to compute the loss of.", "Give at least one.");
    checkTrainable(loaded.model, adapter);
    const specs = trainableSpecs(loaded.model, adapter);
    const variables = new Map([...specs].filter(([name]) => isVariable(subject, options.over, name)));
    const runs = planRuns(subject, batches, options.differentiable ? variables : new Map());
    // A tensor that does not influence the loss has no gradient.
    const differentiated = options.differentiable ? runs[0]!.plan.gradients : variables;
    const layout = new VectorLayout(new Map([...variables].filter(([name]) => differentiated.has(name))));
    const origin = layout.pack(tensors);
    const live = options.differentiable ? differentiated : new Map<string, TensorSpec>();
    const state = await TrainableTensors.create(loaded, adapter, 0, { live });
    const executor = new Executor(loaded.engine.device);
    try {
      state.restore(tensors);
      await executor.hold([...new Set(runs.map((run) => run.plan))]);
      await executor.compile();
    } catch (error) {
      executor.dispose();
      state.dispose();
      throw error;
    }
    return new LossSurface(layout, origin, runs, executor, state, subject);
  }

  /** The loss at a point, [layout.size]. */
  async loss(at: Float32Array): Promise<number> {
    this.state.restore(this.layout.unpack(at));
    let sum = 0;
    for (const { plan, inputs } of this.runs) {
      sum += (await this.executor.run(plan, this.state, inputs)).get("loss")?.[0] ?? NaN;
    }
    return sum;
  }

  /** Loss and gradient at a point; point and gradient are [layout.size]. */
  async gradient(at: Float32Array): Promise<{ readonly loss: number; readonly gradient: Float32Array }> {
    const loss = await this.loss(at);
    const gradient = new Float32Array(this.layout.size);
    const reads = this.layout.segments.map(async ({ name, offset }) => {
      gradient.set(await this.state.tensor(gradientName(name)).read(), offset);
    });
    await Promise.all(reads);
    return { loss, gradient };
  }

  /** Frees the memory, and restores the values of a model that was tuned in place. */
  dispose(): void {
    if (this.subject.adapter.trainsInPlace) this.state.restore(this.subject.tensors);
    this.executor.dispose();
    this.state.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

function isVariable({ model: { model } }: Subject, over: LossVariables, name: string): boolean {
  if (typeof over === "function") return over(name);
  return over === "all" || !model.heads.some((head) => name.startsWith(`${head}.`));
}

/** Plan and inputs of every batch. The gradients of later batches are added to those of the first one. */
function planRuns(subject: Subject, batches: readonly Batch[], variables: ReadonlyMap<string, TensorSpec>): BatchRun[] {
  const { model: loaded, adapter, labelSmoothing = 0, loss: ownLoss } = subject;
  const { model, fragileNorms, engine } = loaded;
  const trainable = new Set(variables.keys());
  const differentiable = trainable.size > 0;
  const labels = batches.reduce((sum, batch) => sum + countedLabels(model, batch, { loss: ownLoss, adapter }), 0);
  const plans = new Map<string, Plan>();
  return batches.map((batch, index) => {
    const addToGradients = differentiable && index > 0;
    const key = `${shapeKey(batch)} ${addToGradients}`;
    if (!plans.has(key)) {
      const traced = { model, adapter, batch: shapeOf(batch), isTraining: false, fragileNorms, labelSmoothing };
      const { tape, loss } = trace({ ...traced, differentiable, loss: ownLoss });
      const gradients = differentiable ? { loss, trainable, addToGradients } : {};
      plans.set(key, plan(tape, { outputs: { loss }, ...gradients, limits: engine.device.limits }));
    }
    const inputs = batchInputs(model, batch, { labels, runs: batches.length, adapter, loss: ownLoss });
    return { plan: plans.get(key)!, inputs };
  });
}
