import { MemoryBudgetError } from "../../base/errors";
import { importanceReference } from "../../freeze/policy";
import type { ActivePolicy, Progress } from "../../freeze/policy";
import type { Bytes } from "../../gpu/ledger";
import { runLength } from "../estimate/run-length";
import { withMemoryRemedy } from "../estimate/memory-remedy";
import type { FreezeContextParts, PolicyScores } from "../freezing/context";
import { checkFreeze, withoutLastGroup } from "../freezing/freezable";
import { probeBatches } from "../plans/comparison-trace";
import { policyStatistics } from "../plans/statistics-plan";
import { compactionEvent, freezeEvent } from "./reports";
import type { CompactionEvent, FreezeEvent, StepReport } from "./reports";
import { holdPlans } from "../step/optimizer-plans";
import type { RunResources } from "./resources";

/** Live bytes of a run, and FLOPs of an optimizer step with the largest batch. */
interface RunCost {
  readonly bytes: Bytes;
  readonly flops: number;
}

/** What it needs of the loop. */
interface LoopAccess {
  /** The current progress. */
  readonly progress: () => Progress;
  /** Receives a note about the policy, for the user and the run's record. */
  readonly note: (text: string) => void;
  /** Freezes before a resumption that no step report contains yet. */
  readonly unreportedFreezes: readonly FreezeEvent[];
}

/**
 * What follows an optimizer step: statistics, structural pruning, the adapter's own updates, the policy and its freezes.
 * Where one of these fails, for example because the driver has no memory for the plans after a freeze, the next call of
 * `run` continues with it: nothing is done twice, nothing is left out.
 */
export class AfterStep {
  readonly #tasks: (() => Promise<void>)[] = [];
  #completedTasks = 0;
  /** Tensors that the policy has chosen to freeze, until they are frozen. */
  #chosenTensors: readonly string[] | undefined;
  /** The run when a freeze began, until the freeze is complete. */
  #beforeFreeze: { readonly layers: readonly number[]; readonly cost: RunCost } | undefined;
  /** The cost of the run when a compaction began, until it is complete. */
  #beforeCompaction: RunCost | undefined;
  #compaction: CompactionEvent | undefined;
  #scores: PolicyScores | undefined;
  readonly #unreportedFreezes: FreezeEvent[];

  constructor(
    private readonly resources: RunResources,
    private readonly loop: LoopAccess,
  ) {
    this.#unreportedFreezes = [...loop.unreportedFreezes];
  }

  /** Freezes that no step report contains yet. */
  get unreportedFreezes(): readonly FreezeEvent[] {
    return this.#unreportedFreezes;
  }

  /** Whether some of what follows a step is done and some is not. */
  get isPartlyDone(): boolean {
    return this.#completedTasks > 0 && this.#tasks.length > 0;
  }

  /**
   * Schedules what precedes the first step: initial pruning, and the policy's first decision.
   * @param computeGradients leaves the gradients of the first batch in the tensors.
   */
  scheduleStart(computeGradients: () => Promise<void>, onDone: () => void): void {
    this.#tasks.push(
      () => this.#pruneInitially(computeGradients),
      () => this.#consultPolicy(),
      () => {
        onDone();
        return Promise.resolve();
      },
    );
  }

  /** Schedules what follows the step of this number, from 0. */
  schedule(step: number): void {
    const { updates, executor, pruner, adapterState } = this.resources;
    this.#tasks.push(
      () => updates.collectStatistics(executor, "after_update", step),
      async () => pruner?.prune(this.loop.progress()),
      () => this.#compact(),
      async () => adapterState?.afterStep(this.loop.progress().step),
      () => this.#consultPolicy(),
    );
  }

  /** Does what is scheduled. */
  async run(): Promise<void> {
    for (let task = this.#tasks[0]; task; task = this.#tasks[0]) {
      await task();
      this.#tasks.shift();
      this.#completedTasks++;
    }
    this.#completedTasks = 0;
  }

  /** What happened since the last call. */
  takeReport(): Pick<StepReport, "scores" | "freezes" | "compaction"> {
    const compaction = this.#compaction;
    this.#compaction = undefined;
    return { scores: this.#scores, freezes: this.#unreportedFreezes.splice(0), compaction };
  }

  /**
   * Freezes tensors for good: plans again and returns to the driver the memory that only the old plans held.
   * @throws ConfigError for a tensor that this run does not train; OutOfMemoryError where the driver has no memory for the
   * new plans: the tensors are frozen then, and the next step, or another call, plans again.
   */
  async freeze(tensors: readonly string[]): Promise<FreezeEvent> {
    const { state, book, updates, merging } = this.resources;
    checkFreeze(state, tensors);
    // A freeze that was refused before is reported as one, together with this call.
    this.#beforeFreeze ??= { layers: [...state.liveByLayer().keys()], cost: this.#cost() };
    const before = this.#beforeFreeze;
    book.freezeTo(new Set([...state.live.keys()].filter((name) => !tensors.includes(name))));
    state.freeze(tensors, book.live);
    updates.rebuild();
    await withMemoryRemedy(this.resources, async () => {
      await merging?.mergeFrozen();
      await holdPlans(this.resources);
    });
    this.#beforeFreeze = undefined;
    const layers = before.layers.filter((layer) => !state.liveByLayer().has(layer));
    const event = freezeEvent({ step: this.loop.progress().step, tensors, layers }, before.cost, this.#cost());
    this.#unreportedFreezes.push(event);
    return event;
  }

  async #pruneInitially(computeGradients: () => Promise<void>): Promise<void> {
    const { policy, state, updates } = this.resources;
    if (policy.kind !== "weight_pruning") return;
    const { weightPruningContext } = await import("../freezing/weight-pruning");
    await state.prune(await policy.state.masks(await weightPruningContext(state, computeGradients)));
    updates.rebuild();
  }

  /** Cuts masked heads and neurons out of the tensors, where that is due. Plans give way meanwhile, since tensors are copied. */
  async #compact(): Promise<void> {
    const { pruner, compaction, updates, executor } = this.resources;
    if (!pruner || !compaction) return;
    if (!this.#beforeCompaction) {
      if (!pruner.chooseCuts(this.loop.progress())) return;
      const before = this.#cost();
      try {
        compaction.plan();
      } catch (error) {
        // Smaller buffers may be packed less well: the next compaction cuts more.
        if (error instanceof MemoryBudgetError) return;
        throw error;
      }
      this.#beforeCompaction = before;
    }
    await withMemoryRemedy(this.resources, async () => {
      await executor.hold([]);
      await compaction.run();
      updates.rebuild();
      await holdPlans(this.resources);
    });
    const { step } = this.loop.progress();
    this.#compaction = compactionEvent({ step, ...compaction.counts }, this.#beforeCompaction, this.#cost());
    this.#beforeCompaction = undefined;
  }

  async #consultPolicy(): Promise<void> {
    if (!this.#chosenTensors) {
      this.#scores = undefined;
      const { policy } = this.resources;
      const isDue = policy.kind === "freezing" && policy.state.isDue(this.loop.progress());
      this.#chosenTensors = isDue ? this.#freezable(await this.#decide(policy)) : [];
    }
    if (this.#chosenTensors.length > 0) await this.freeze(this.#chosenTensors);
    this.#chosenTensors = undefined;
    this.#noteEnd();
  }

  async #decide(policy: ActivePolicy & { readonly kind: "freezing" }): Promise<readonly string[]> {
    const { world } = this.resources;
    const { decide } = await import("../freezing/decide");
    return decide(world, policy, this.#context());
  }

  /** What a policy's choice freezes: a run does not stop because all of it is to freeze, it trains its last group on. */
  #freezable(chosen: readonly string[]): readonly string[] {
    const { state, policy } = this.resources;
    const { tensors, kept } = withoutLastGroup(state, chosen);
    if (kept) {
      const group =
        typeof kept.place === "number" ? `layer ${kept.place}` : `what lies ${kept.place ?? "above"} the layers`;
      this.loop.note(
        `${policy.policy.name} would freeze everything that still learns; ${group} continues to be trained.`,
      );
    }
    return tensors;
  }

  /** Passes on what the policy says of a complete run. */
  #noteEnd(): void {
    const { state, policy } = this.resources;
    const { step, totalSteps } = this.loop.progress();
    if (policy.kind !== "freezing" || step < totalSteps) return;
    const remark = policy.state.remark?.(state.liveByLayer());
    if (remark !== undefined) this.loop.note(remark);
  }

  /** What the policy sees follows from it. */
  #context(): FreezeContextParts {
    const { options, state, executor, book, updates, policy, merging, first } = this.resources;
    return {
      loaded: options.model,
      adapter: options.adapter,
      state,
      executor,
      probe: probeBatches(options.probe ?? first),
      progress: this.loop.progress(),
      book,
      merging,
      onScores: (scores) => void (this.#scores = scores),
      sidePlansWith: (live) => updates.plansWith(live),
      statistics: policyStatistics(options.policy),
      reference: importanceReference(policy.policy),
    };
  }

  #cost(): RunCost {
    const { options, book, updates } = this.resources;
    const { accumulate } = runLength(options);
    return { bytes: options.model.engine.ledger.live, flops: accumulate * book.batchFlops + updates.flops };
  }
}
