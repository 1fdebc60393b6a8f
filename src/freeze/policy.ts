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
  /** Trainable tensors that still learn, by the transformer layer they belong to. Tensors of the head are not listed. */
  readonly live: ReadonlyMap<number, readonly string[]>;
  /**
   * Importance of each layer's adapter: 1 - CKA of the layer's activation with and without the adapter, on the probe
   * batch (SAFE, eq. 2 and 3). Costs two forward passes; computed when first asked for.
   */
  readonly importance: (options?: { readonly center?: boolean }) => Promise<ReadonlyMap<number, number>>;
  /** What freezing these tensors would give back. */
  readonly effect: (tensors: readonly string[]) => FreezeEffect;
}

/**
 * Decides what to freeze and when. Freezing is for good: a tensor that is returned once never learns again. The unit is
 * the tensor; a policy that thinks in layers returns all tensors of one.
 */
export interface FreezePolicy {
  readonly name: string;
  /** Whether `decide` wants to be called now, after this step (and once before the first, at step 0). */
  isDue(progress: Progress): boolean;
  /** Names of tensors to freeze now. */
  decide(context: FreezeContext): Promise<readonly string[]>;
  /** Options and what the policy has found so far, for the run's record. Plain JSON. */
  record(): Readonly<Record<string, unknown>>;
}
