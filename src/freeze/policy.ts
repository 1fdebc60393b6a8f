import type { Structure } from "../model/structure";
import type { Explanation } from "../tape/explain";
import type { Statistics } from "../ops/shared/statistics";

/** Where a run stands. */
export interface Progress {
  /** Optimizer steps done. */
  readonly step: number;
  readonly totalSteps: number;
  readonly stepsPerEpoch: number;
}

/** What a freeze would change. */
export interface FreezeEffect {
  /** Bytes kept for gradients in a step, and bytes of gradients and moments, before minus after. */
  readonly savedBytes: number;
  readonly stateBytes: number;
  /** Floating-point operations of a step, before minus after. */
  readonly flops: number;
}

/** What a policy sees when it is asked. */
export interface FreezeContext extends Progress {
  /** Transformer layers of the model. */
  readonly layers: number;
  /** Trainable tensors that still learn, by the transformer layer they belong to. Tensors of the head are not listed. */
  readonly live: ReadonlyMap<number, readonly string[]>;
  /**
   * Importance of each layer's adapter: 1 - CKA of the layer's activation with and without the adapter, on the probe
   * batch (SAFE, eq. 2 and 3). Costs two forward passes; computed when first asked for.
   */
  readonly importance: (options?: { readonly center?: boolean }) => Promise<ReadonlyMap<number, number>>;
  /**
   * Mean of smoothed sensitivity times uncertainty of each tensor that `statistics` asks to follow.
   * @throws ConfigError for a policy without `statistics`.
   */
  readonly sensitivity: () => Promise<ReadonlyMap<string, number>>;
  /** The same of every element. Reads both statistics back. */
  readonly elementSensitivity: () => Promise<ReadonlyMap<string, Float32Array>>;
  /** What freezing these tensors would give back. */
  readonly effect: (tensors: readonly string[]) => FreezeEffect;
  /** What a step of the largest batch shape keeps, and for which gradient, with these tensors frozen too. */
  readonly explain: (tensors?: readonly string[]) => Explanation;
  /** GPU bytes that the run would occupy with these tensors frozen too; equals the ledger after such a freeze. */
  readonly bytesWith: (tensors: readonly string[]) => number;
}

/** What a policy may look at before the first step, to prune. */
export interface PruneContext {
  /** Values of every trainable tensor of the layers, by name. */
  readonly values: ReadonlyMap<string, Float32Array>;
  /** Gradients on the first batch. Costs a forward and a backward pass; computed when first asked for. */
  readonly gradients: () => Promise<ReadonlyMap<string, Float32Array>>;
}

/** A structure's groups as they stand: each one's running importance, and those that are out. */
export interface GroupScores {
  readonly structure: Structure;
  readonly scores: Float64Array;
  readonly out: ReadonlySet<number>;
}

/** How heads and neurons of the base model go while its LoRA learns. */
export interface StructuralPruning {
  /** Share of the past that each group's importance keeps; it is brought up to date in every step. */
  readonly smoothing: number;
  /** Whether a structure may lose groups, in a model of so many layers. */
  applies(structure: Structure, layers: number): boolean;
  /** Whether `choose` wants to be called now, after this step. */
  isDue(progress: Progress): boolean;
  /** The groups of each structure that are out from now on. */
  choose(progress: Progress, groups: readonly GroupScores[]): readonly ReadonlySet<number>[];
}

/**
 * Decides what to freeze and when. Freezing is for good: a tensor that is returned once never learns again. The unit is
 * the tensor; a policy that thinks in layers returns all tensors of one.
 */
export interface FreezePolicy {
  readonly name: string;
  /**
   * Whether `decide` wants to be called now, after this step (and once before the first, at step 0). Asked ahead of a step
   * too, so that it must depend on nothing but the progress.
   */
  isDue(progress: Progress): boolean;
  /** Names of tensors to freeze now. */
  decide(context: FreezeContext): Promise<readonly string[]>;
  /** Options and what the policy has found so far, for the run's record. Plain JSON. */
  record(): Readonly<Record<string, unknown>>;
  /** Where its schedule stands, for pictures: a threshold of scores, or the share that is to be frozen. */
  level?(progress: Progress): { readonly name: string; readonly value: number } | undefined;
  /** Its options alone, plain JSON: a checkpoint is resumed only with the same ones. */
  readonly settings?: Readonly<Record<string, unknown>>;
  /** What it has found so far and its next decisions depend on, plain JSON. Left out where that is nothing. */
  save?(): unknown;
  /**
   * Goes on where `save` was called, whatever it has seen since.
   * @throws FileFormatError for what no such policy saves.
   */
  restore?(saved: unknown): void;
  /** Statistics that `decide` needs. */
  readonly statistics?: Statistics;
  /** Masks of tensors to prune before the first step: 1 keeps an element, 0 makes it 0 for good. */
  prune?(context: PruneContext): Promise<ReadonlyMap<string, Float32Array>>;
  /** Takes structures of the base model out. */
  readonly structural?: StructuralPruning;
  /** Layers whose adapter is out in the next step, neither acting nor learning; empty for none. */
  dropped?(progress: Progress, layers: number): readonly number[];
}
