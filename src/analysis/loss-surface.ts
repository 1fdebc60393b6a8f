import { DataError } from "../base/errors";
import type { Batch } from "../data/batch";
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
 * Which of a subject's tensors are moved, frozen or not: those in the transformer's layers ("adapter"), these and the
 * task's head ("all"), or those that a function chooses by name.
 */
export type Moved = "adapter" | "all" | ((name: string) => boolean);

export interface SurfaceOptions {
  /** The loss is the mean over the labels of all of them. */
  readonly batches: Iterable<Batch>;
  readonly over: Moved;
  /** Whether `gradient` will be called. */
  readonly differentiable: boolean;
}

/** A batch's turn in an evaluation. */
interface Turn {
  readonly plan: Plan;
  readonly inputs: Inputs;
}

/**
 * The loss of a fine-tuned model as a function of its trained tensors: fixed batches, no dropout. It has tensors and
 * buffers of its own, so that a trainer beside it keeps every bit. Dispose of it when done.
 */
export class LossSurface {
  private constructor(
    readonly layout: VectorLayout,
    /** The subject's own values. */
    readonly origin: Float32Array,
    private readonly turns: readonly Turn[],
    private readonly executor: Executor,
    private readonly state: TrainableTensors,
    private readonly subject: Subject,
  ) {}

  /**
   * Plans and allocates.
   * @throws ConfigError where tensors are missing or no tensor is moved, DataError without batches, DeviceError when
   * memory runs out.
   */
  static async open(subject: Subject, options: SurfaceOptions): Promise<LossSurface> {
    const { model: loaded, adapter, tensors } = subject;
    const batches = [...options.batches];
    if (batches.length === 0) throw new DataError("There are no batches to take the loss of.", "Give at least one.");
    checkTrainable(loaded.model, adapter);
    const specs = trainableSpecs(loaded.model, adapter);
    const moved = new Map([...specs].filter(([name]) => isMoved(subject, options.over, name)));
    const turns = turnsOf(subject, batches, options.differentiable ? moved : new Map());
    const reached = options.differentiable ? turns[0]!.plan.gradients : moved;
    const layout = new VectorLayout(new Map([...moved].filter(([name]) => reached.has(name))));
    const origin = layout.pack(tensors);
    const live = options.differentiable ? reached : new Map<string, TensorSpec>();
    const state = await TrainableTensors.create(loaded, adapter, 0, { live });
    const executor = new Executor(loaded.engine.device);
    try {
      state.restore(tensors);
      await executor.hold([...new Set(turns.map((turn) => turn.plan))]);
      await executor.compile();
    } catch (error) {
      executor.dispose();
      state.dispose();
      throw error;
    }
    return new LossSurface(layout, origin, turns, executor, state, subject);
  }

  /** The loss at a point, [layout.size]. */
  async loss(at: Float32Array): Promise<number> {
    this.state.restore(this.layout.unpack(at));
    let sum = 0;
    for (const { plan, inputs } of this.turns) {
      sum += (await this.executor.run(plan, this.state, inputs)).get("loss")?.[0] ?? NaN;
    }
    return sum;
  }

  /** Loss and gradient at a point. */
  async gradient(at: Float32Array): Promise<{ readonly loss: number; readonly gradient: Float32Array }> {
    const loss = await this.loss(at);
    const gradient = new Float32Array(this.layout.size);
    const reading = this.layout.segments.map(async ({ name, offset }) => {
      gradient.set(await this.state.tensor(gradientName(name)).read(), offset);
    });
    await Promise.all(reading);
    return { loss, gradient };
  }

  /** Returns the memory; a model that was tuned in place has its values back. */
  dispose(): void {
    if (this.subject.adapter.trainsInPlace) this.state.restore(this.subject.tensors);
    this.executor.dispose();
    this.state.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

function isMoved({ model: { model } }: Subject, over: Moved, name: string): boolean {
  if (typeof over === "function") return over(name);
  return over === "all" || !model.heads.some((head) => name.startsWith(`${head}.`));
}

/** A plan and inputs for every batch. With gradients, those of later batches are added to the first one's. */
function turnsOf(subject: Subject, batches: readonly Batch[], moved: ReadonlyMap<string, TensorSpec>): Turn[] {
  const { model: loaded, adapter, labelSmoothing = 0 } = subject;
  const { model, fragileNorms, engine } = loaded;
  const trainable = new Set(moved.keys());
  const differentiable = trainable.size > 0;
  const labels = batches.reduce((sum, batch) => sum + countedLabels(model, batch), 0);
  const plans = new Map<string, Plan>();
  return batches.map((batch, index) => {
    const { size, length } = batch;
    const addToGradients = differentiable && index > 0;
    const key = `${size} x ${length} ${addToGradients}`;
    if (!plans.has(key)) {
      const options = { model, adapter, batch: { size, length }, isTraining: false, fragileNorms, labelSmoothing };
      const { tape, loss } = trace({ ...options, differentiable });
      const gradients = differentiable ? { loss, trainable, addToGradients } : {};
      plans.set(key, plan(tape, { outputs: { loss }, ...gradients, limits: engine.device.limits }));
    }
    const { virtualTokens } = adapter;
    const inputs = batchInputs(model, batch, { labels, runs: batches.length, virtualTokens });
    return { plan: plans.get(key)!, inputs };
  });
}
