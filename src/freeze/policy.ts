import type { TensorPlace } from "../model/model";
import type { Structure } from "../model/structure";
import type { Statistics } from "../ops/shared/statistics";
import type { Explanation } from "../tape/explain";

/** A run as a policy knows it before the first step. */
export interface RunInfo {
  /** Transformer layers of the model. */
  readonly layers: number;
  readonly totalSteps: number;
  readonly stepsPerEpoch: number;
}

/** How far a run is. */
export interface Progress {
  /** Optimizer steps done. */
  readonly step: number;
  readonly totalSteps: number;
  readonly stepsPerEpoch: number;
}

/** Configuration of a policy. It changes in no run, so that any number of runs may share one. */
export interface PolicyConfig {
  readonly name: string;
  /** Options as plain JSON. They go into the run's record, and a checkpoint is resumed only with the same ones. */
  readonly settings?: Readonly<Record<string, unknown>>;
}

/** State of a policy in one run. A policy that remembers nothing needs none of these methods. */
export interface PolicyState {
  /** Findings so far, as plain JSON: they follow the settings in the run's record. */
  record?(): Readonly<Record<string, unknown>>;
  /** Everything that the next decisions depend on, as plain JSON, for checkpoints. */
  save?(): unknown;
  /**
   * Continues from what `save` returned.
   * @throws FileFormatError for a value that no such policy saves.
   */
  restore?(saved: unknown): void;
}

/**
 * What the importance of a layer compares its output with: the output of the same layer of the "original" model on the same
 * texts, or that of the same layer without its "own" adapter, on the same input.
 */
export type ImportanceReference = "original" | "own";

/** What a freeze would change. */
export interface FreezeEffect {
  /** Bytes kept from forward to backward in a step, before minus after. */
  readonly savedBytes: number;
  /** Bytes of gradients, moments and statistics, before minus after. */
  readonly stateBytes: number;
  /** Floating-point operations of a step, before minus after. */
  readonly flops: number;
}

/** What a freezing policy sees of a run when it decides. */
export interface FreezeContext extends Progress {
  /** Transformer layers of the model. */
  readonly layers: number;
  /**
   * Trainable tensors that still learn, by transformer layer. Those below the first layer (embeddings) are listed with the
   * lowest live layer, so that they freeze with it; tensors of the head are not listed.
   */
  readonly live: ReadonlyMap<number, readonly string[]>;
  /**
   * Importance of each layer's adapter: 1 - CKA of the layer's activations with and without the adapter, on the probe
   * (SAFE, Son et al. 2024, eq. 2 and 3). Computed at the first call; costs two forward passes a batch.
   * @throws ConfigError for a policy without `usesImportance`.
   */
  readonly importance: (options?: { readonly center?: boolean }) => Promise<ReadonlyMap<number, number>>;
  /**
   * Mean over the elements of smoothed sensitivity times uncertainty, for each live tensor in the policy's `statistics`.
   * @throws ConfigError for a policy without `statistics`.
   */
  readonly sensitivity: () => Promise<ReadonlyMap<string, number>>;
  /** Smoothed sensitivity times uncertainty of every element of those tensors. Reads both statistics back. */
  readonly elementSensitivity: () => Promise<ReadonlyMap<string, Float32Array>>;
  /** What freezing these tensors would give back. */
  readonly effect: (tensors: readonly string[]) => FreezeEffect;
  /** What a step of the largest batch shape keeps, and for which gradient, with these tensors frozen too. */
  readonly explain: (tensors?: readonly string[]) => Explanation;
  /** GPU bytes that the run would occupy with these tensors frozen too; equals the ledger after such a freeze. */
  readonly bytesWith: (tensors: readonly string[]) => number;
}

/**
 * Decides which tensors to freeze, and when. Freezing is final: a frozen tensor never learns again. The unit is the tensor;
 * a policy that thinks in layers returns all tensors of a layer.
 */
export interface FreezePolicy extends PolicyConfig {
  readonly kind: "freezing";
  /**
   * Whether `decide` calls `importance`, so that a memory budget has room for it, and by which reference: true is "original".
   * Default false.
   */
  readonly usesImportance?: boolean | ImportanceReference;
  /** Statistics of gradients that `decide` reads, collected in every step. */
  readonly statistics?: Statistics;
  /**
   * Whether it may ever freeze a tensor, in a model with so many transformer layers. A run
   * that trains no such tensor is refused. Default: it may freeze any.
   */
  mayFreeze?(tensor: { readonly name: string; readonly layer: TensorPlace }, layers: number): boolean;
  /** Begins a run. */
  start(run: RunInfo): FreezePolicyState;
}

export interface FreezePolicyState extends PolicyState {
  /**
   * Whether to call `decide` now: after every step, and once before the first one, at step 0. Must depend on the progress
   * alone, since it is also asked ahead of a step.
   */
  isDue(progress: Progress): boolean;
  /**
   * Names of tensors to freeze now. Where these are all that still learns, the trainer keeps the uppermost group of them
   * (the head, or else the highest layer), and says so.
   */
  decide(context: FreezeContext): Promise<readonly string[]>;
  /**
   * What the user should know after the last step, for example that nothing was frozen; undefined for nothing. The trainer
   * passes it to `warn` and adds it to the policy's record.
   * @param live as in `FreezeContext`.
   */
  remark?(live: FreezeContext["live"]): string | undefined;
  /** The schedule's current value, for pictures: a threshold of scores, or the share of tensors to be frozen. */
  level?(progress: Progress): { readonly name: string; readonly value: number };
}

/** Leaves the adapters of some layers out of a step: they do not learn in it, and unless the policy says so do not act either. */
export interface LayerDropPolicy extends PolicyConfig {
  readonly kind: "layer_dropping";
  /**
   * Whether the adapters that a step leaves out still act in it, so that they only rest. What learns below the layers then rests
   * with the lowest of them, and the other steps run in parts that fit into the memory of the one in which most layers rest,
   * but for a quarter. Default false.
   */
  readonly adaptersAct?: boolean;
  /**
   * Every set of layers, but the empty one, that a step of a model with so many layers may leave out. A run plans a step
   * without each of them before it begins.
   */
  variants(layers: number): readonly (readonly number[])[];
  /** Begins a run. */
  start(run: RunInfo): LayerDropPolicyState;
}

export interface LayerDropPolicyState extends PolicyState {
  /** Layers that the next step leaves out: one of the `variants`, or none. */
  dropped(progress: Progress): readonly number[];
}

/** Removes parts of the network: single weights of adapters, or whole structures of the base model. */
export type PruningPolicy = WeightPruningPolicy | StructurePruningPolicy;

/** Sets weights of the layers' trainable tensors to 0, once, before the first step; they stay 0. */
export interface WeightPruningPolicy extends PolicyConfig {
  readonly kind: "weight_pruning";
  /** Begins a run. */
  start(run: RunInfo): WeightPruningPolicyState;
}

export interface WeightPruningPolicyState extends PolicyState {
  /** Masks of the tensors to prune, by name and of the tensors' sizes: 1 keeps an element, 0 removes it. */
  masks(context: WeightPruningContext): Promise<ReadonlyMap<string, Float32Array>>;
}

/** What a policy sees before the first step to prune weights. */
export interface WeightPruningContext {
  /** Values of every trainable tensor of the layers, by name. */
  readonly values: ReadonlyMap<string, Float32Array>;
  /** Gradients on the first batch, by the tensors' names. Computed when called; costs a forward and a backward pass. */
  readonly gradients: () => Promise<ReadonlyMap<string, Float32Array>>;
}

/** Removes attention heads and feed-forward neurons of the base model while its LoRA learns. */
export interface StructurePruningPolicy extends PolicyConfig {
  readonly kind: "structure_pruning";
  /** Share of the past that each group's running importance keeps when a step's importance is added. */
  readonly smoothing: number;
  /** Whether a structure may lose groups, in a model of so many layers. */
  applies(structure: Structure, layers: number): boolean;
  /** Begins a run. */
  start(run: RunInfo): StructurePruningPolicyState;
}

export interface StructurePruningPolicyState extends PolicyState {
  /** Whether to call `choose` now, after a step. */
  isDue(progress: Progress): boolean;
  /** Groups of each structure that are out from now on. Groups that are out already must be among them. */
  choose(progress: Progress, structures: readonly GroupScores[]): readonly ReadonlySet<number>[];
  /**
   * Whether to cut what is out of the tensors now, after a step, so that its memory is given back. What is out and not cut
   * is multiplied by 0. Default never.
   */
  isCompactionDue?(progress: Progress): boolean;
}

/** The groups of a structure: each one's running importance, and those that are out. */
export interface GroupScores {
  /** The structure as it was loaded. */
  readonly structure: Structure;
  readonly scores: Float64Array;
  readonly out: ReadonlySet<number>;
}

/** What a trainer takes as its policy. */
export type Policy = FreezePolicy | LayerDropPolicy | PruningPolicy;

/** What a policy's importance compares layers with; undefined for a policy that reads no importance. */
export function importanceReference(policy: Policy | undefined): ImportanceReference | undefined {
  if (policy?.kind !== "freezing" || !policy.usesImportance) return undefined;
  return policy.usesImportance === true ? "original" : policy.usesImportance;
}

/** A policy with its state in one run. */
export type ActivePolicy =
  Active<FreezePolicy> | Active<LayerDropPolicy> | Active<WeightPruningPolicy> | Active<StructurePruningPolicy>;

interface Active<P extends Policy> {
  readonly kind: P["kind"];
  readonly policy: P;
  readonly state: ReturnType<P["start"]>;
}

/** Begins a run with a policy. */
export function startPolicy(policy: Policy, run: RunInfo): ActivePolicy {
  // The compiler does not follow that a policy and the state which it starts are of the same kind.
  return { kind: policy.kind, policy, state: policy.start(run) } as ActivePolicy;
}
