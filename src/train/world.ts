/*
 * Several devices that train one run together, as the trainer of one of them sees it. Types alone: what carries messages from
 * device to device is an implementation of these, such as `join` of safetape/distributed.
 */

/** A run in which several devices take part: a trainer's option `distributed`. It is configuration; each trainer enters anew. */
export interface World {
  /** Steps that each device makes alone between two exchanges. Left out: gradients are exchanged in every step. */
  readonly localSteps?: LocalSteps | undefined;
  /** Enters the run, or begins it. @throws ConfigError where the run of this name is another one. */
  enter(run: WorldRun): Promise<WorldMember>;
}

/**
 * Local steps (DiLoCo; Douillard et al. 2023): each device makes some steps on its own rows, with an optimizer state of its own. Then
 * the mean of what they changed, weighted by their rows, is the step of an outer optimizer: SGD with Nesterov's momentum.
 */
export interface LocalSteps {
  /** Steps between two exchanges (H). One more comes before each decision of a policy, and after the last step. */
  readonly every: number;
  /** Learning rate of the outer optimizer. */
  readonly learningRate: number;
  /** Momentum of the outer optimizer. 0 with a learning rate of 1 is averaging. */
  readonly momentum: number;
}

/** A run as a device describes it to the others. */
export interface WorldRun {
  /** What all devices must have in common, by dotted names: options, model, data and adapter. */
  readonly identity: Readonly<Record<string, string>>;
  /** Name of this device's GPU. Those of one name round alike. */
  readonly gpu: string;
  /** Receives what is worth knowing and does not stop the run. */
  readonly warn: (message: string) => void;
}

/** The part of a step's work that a device has, as bounds of sums of weights. */
export interface Share {
  /** Rank among the devices that have a share, from 0. */
  readonly rank: number;
  /** Number of devices that have a share. */
  readonly count: number;
  /** Sum of the weights of the ranks before it. */
  readonly start: number;
  /** `start` and its own weight. */
  readonly end: number;
  /** Sum of all weights. */
  readonly total: number;
}

/** What a device computed of a round, or what all computed together. */
export interface WorldPart {
  /** Numbers that are sent as they are. */
  readonly exact: Float32Array;
  /** Numbers that are sent in the run's encoding. */
  readonly values: Float32Array;
  /** What the leader decided. Plain JSON, which only a result has. */
  readonly record?: unknown;
}

/** What one round of all devices computes. */
export interface RoundWork {
  /** This device's part. Called again where the shares change during the round. Left out where the leader alone computes. */
  readonly compute?: ((share: Share) => Promise<WorldPart>) | undefined;
  /** Number of `exact` and `values` that a part has. */
  readonly sizeOf: (share: Share) => { readonly exact: number; readonly values: number };
  /** Joins the parts of all ranks, in their order. Called on the leader. */
  readonly join: (parts: readonly WorldPart[]) => WorldPart | Promise<WorldPart>;
  /** Milliseconds that this device has computed for its part before the round. Default 0. */
  readonly millis?: number;
  /** Whether the values of parts and of the result are sent as f32 whatever the run's encoding is. Default false. */
  readonly isExact?: boolean;
}

/** Payload bytes of messages. */
export interface WireBytes {
  readonly sent: number;
  readonly received: number;
}

/** Payload bytes of a device in a step, as they were, and as the live tensors predict them. */
export interface WireReport extends WireBytes {
  readonly planned: WireBytes;
}

/** A device's place in a run. All devices make the same rounds in the same order. */
export interface WorldMember {
  /** Whether this device joins the parts and decides. It may become the leader in any round. */
  readonly leads: boolean;
  /** Whether the devices' updates may round differently, so that the leader's tensors are sent after each. */
  readonly isMixed: boolean;
  /** Rounds that the run has had. */
  readonly rounds: number;
  /** Number of devices that share the work. */
  readonly count: number;
  /** Whether this device has to take over the leader's state before it goes on. */
  readonly needsState: boolean;
  /** This device's share as things stand; undefined while it has none. */
  readonly share: Share | undefined;
  /** Says how many rows this device would run at the same time, if it had all of them. First shares follow from it. */
  setRowsAtOnce(rows: number): void;
  /** Payload bytes of this device's rounds since the last call, as they were and as they are predicted. */
  takeBytes(): WireReport;
  /** The leader's state, written as a checkpoint. @throws where nobody gives it. */
  fetchState(): Promise<Uint8Array>;
  /**
   * Called between two steps. The leader gives its state to those that ask for it, and before the first step waits for as many devices
   * as the run needs. @param state the state now, as a checkpoint.
   */
  meet(state: () => Promise<Uint8Array>): Promise<void>;
  /**
   * A round that agrees on shares, for work that each device does before the next round.
   * @throws where this device gets none: it has to take over the leader's state first, as `needsState` then says.
   */
  plan(): Promise<void>;
  /** Says what the trained tensors are from now on: a digest of their bits. */
  setDigest(digest: Uint8Array): void;
  /**
   * One round: every device computes its part, the leader joins them, and all get the same bits.
   * @throws where this device has to take over the leader's state first, as `needsState` then says.
   */
  round(work: RoundWork): Promise<WorldPart>;
  /** Leaves the run. Others go on. */
  leave(): Promise<void>;
}
