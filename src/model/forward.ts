import { ConfigError } from "../base/errors";
import { originalName } from "../run/store";
import { add } from "../ops/add";
import { addBroadcast } from "../ops/add_broadcast";
import { attention } from "../ops/attention";
import { dropout } from "../ops/dropout";
import { embedding } from "../ops/embedding";
import { fusedAttention } from "../ops/fused_attention";
import { layerNorm } from "../ops/layer_norm";
import { linear } from "../ops/linear";
import { rmsNorm } from "../ops/rms_norm";
import type { Recorder, Value } from "../tape/tape";
import type { CacheSpec, CachedSites } from "./cache";
import type { BatchSize, ImageSpec, Model, ParameterSpec, Projection } from "./model";

/** A projection about to be applied: what an adapter sees. */
export interface LinearSite extends Projection {
  readonly x: Value;
  readonly weight: Value;
  readonly biasValue: Value | undefined;
}

/** A sub-layer's output before its residual: what an adapter sees. */
export interface BlockSite {
  /** The sub-layer's module. */
  readonly name: string;
  readonly layer: number;
  readonly x: Value;
}

/** What an adapter may change while a model is traced. Each returns undefined to leave things as they are. */
export interface ForwardHooks {
  /** Virtual tokens that `embedded` puts before each text. */
  readonly virtualTokens?: number;
  /** Acts on token embeddings [b, t, d], before positions are added: prompts. */
  embedded?(forward: Forward, x: Value): Value;
  /** Takes the place of `x W + bias`. */
  linear?(forward: Forward, site: LinearSite): Value | undefined;
  /** Acts on a sub-layer's output, before its residual: bottleneck adapters. */
  block?(forward: Forward, site: BlockSite): Value | undefined;
}

export interface ForwardOptions {
  readonly recorder: Recorder;
  readonly model: Model;
  readonly batch: BatchSize;
  readonly hooks?: ForwardHooks | undefined;
  /** Whether dropout acts. */
  readonly isTraining: boolean;
  /** Norms whose output cannot be inverted because a weight is close to zero: their gradients read their input. */
  readonly fragileNorms?: ReadonlySet<string> | undefined;
  /** Parameters that the run trains: the norms among them are treated as fragile, since training may bring them there. */
  readonly trained?: ReadonlySet<string> | undefined;
  /** Tensors to be read as they were loaded, though an adapter trains a copy of them. */
  readonly originals?: ReadonlySet<string> | undefined;
  /** Keeps keys and values for generation. */
  readonly cache?: CacheSpec | undefined;
}

/** One trace of a model: names parameters as the checkpoint does, and is the one place where an adapter acts. */
export class Forward {
  readonly recorder: Recorder;
  readonly model: Model;
  readonly batch: BatchSize;
  readonly isTraining: boolean;
  readonly #hooks: ForwardHooks;
  readonly #fragile: ReadonlySet<string>;
  readonly #trained: ReadonlySet<string>;
  readonly #originals: ReadonlySet<string>;
  readonly #cache: CacheSpec | undefined;
  readonly #once = new Map<string, Value>();
  readonly #specs: ReadonlyMap<string, ParameterSpec>;
  readonly #projections: ReadonlyMap<string, Projection>;
  #salt = 0;

  constructor(options: ForwardOptions) {
    this.recorder = options.recorder;
    this.model = options.model;
    this.batch = options.batch;
    this.isTraining = options.isTraining;
    this.#hooks = options.hooks ?? {};
    this.#cache = options.cache;
    this.#fragile = options.fragileNorms ?? new Set();
    this.#trained = options.trained ?? new Set();
    this.#originals = options.originals ?? new Set();
    this.#specs = new Map(options.model.parameters.map((spec) => [spec.name, spec]));
    this.#projections = new Map(options.model.projections.map((projection) => [projection.name, projection]));
  }

  /** Tokens of a row, virtual ones included. */
  get length(): number {
    return this.batch.length + (this.#cache?.isContinuing ? 0 : (this.#hooks.virtualTokens ?? 0));
  }

  /** Cosines and sines of positions, for rotary embeddings of `half` pairs a head. */
  rotation(half: number): Value {
    const rows = this.#cache ? this.batch.size * this.length : this.length;
    return this.recorder.input("rotation", [rows, half, 2]);
  }

  /** A tensor of the checkpoint, by its full name. */
  parameter(name: string): Value {
    const spec = this.#specs.get(name);
    if (!spec) throw new ConfigError(`${this.model.family} has no tensor ${name}.`, "Name one of its parameters.");
    return this.recorder.parameter(this.#originals.has(name) ? originalName(name) : name, spec.shape, spec.dtype);
  }

  get inputIds(): Value {
    return this.recorder.input("input_ids", [this.batch.size, this.batch.length], "i32");
  }

  get tokenTypeIds(): Value {
    return this.recorder.input("token_type_ids", [this.batch.size, this.length], "i32");
  }

  /** 0, 1, 2, ... along the text. */
  get positions(): Value {
    return this.recorder.input("positions", [this.length], "i32");
  }

  /** RoBERTa's: counted over tokens that are not padding, from the padding id + 1. */
  get paddedPositions(): Value {
    return this.recorder.input("padded_positions", [this.batch.size, this.length], "i32");
  }

  /** Images cut into patches, each a row of channels x rows x columns: [size, patches, values]. */
  patches({ size, patch, channels }: ImageSpec): Value {
    const count = (size / patch) ** 2;
    return this.recorder.input("patches", [this.batch.size, count, channels * patch * patch]);
  }

  /** The row of each text's first token among all tokens of the batch. */
  get firstTokens(): Value {
    return this.recorder.input("first_tokens", [this.batch.size], "i32");
  }

  /** ... and that of its last token that is not padding. */
  get lastTokens(): Value {
    return this.recorder.input("last_tokens", [this.batch.size], "i32");
  }

  get attentionMask(): Value {
    return this.recorder.input("attention_mask", [this.batch.size, this.length], "i32");
  }

  /** Two words for each text, that make its dropout masks. */
  get seed(): Value {
    return this.recorder.input("seed", [this.batch.size, 2], "u32");
  }

  /** A value that several places of a trace share: made by the first that asks. */
  once(key: string, make: () => Value): Value {
    const found = this.#once.get(key) ?? make();
    this.#once.set(key, found);
    return found;
  }

  /** A number that no other dropout of this trace has. */
  nextSalt(): number {
    return ++this.#salt;
  }

  /** Rows of a table for the texts' tokens, as an adapter may have them: [size, length, d]. */
  tokens(table: Value): Value {
    const x = this.recorder.apply(embedding, { table, ids: this.inputIds }, {});
    return (this.#cache?.isContinuing ? undefined : this.#hooks.embedded?.(this, x)) ?? x;
  }

  /** x and learnt embeddings of its positions, which a table has by row. */
  withPositions(x: Value, table: Value): Value {
    if (!this.#cache) {
      const b = this.recorder.apply(embedding, { table, ids: this.positions }, {});
      return this.recorder.apply(addBroadcast, { a: x, b }, {});
    }
    const ids = this.recorder.input("text_positions", [this.batch.size, this.length], "i32");
    return this.recorder.apply(add, { a: x, b: this.recorder.apply(embedding, { table, ids }, {}) }, {});
  }

  /** x W + bias by the projection's checkpoint name, as an adapter may have it. */
  linear(name: string, x: Value): Value {
    const projection = this.#projections.get(name);
    if (!projection) throw new ConfigError(`${this.model.family} has no projection ${name}.`, "Name one of its own.");
    const site: LinearSite = {
      ...projection,
      x,
      weight: this.parameter(`${name}.weight`),
      biasValue: projection.bias ? this.parameter(`${name}.bias`) : undefined,
    };
    return this.recorder.labelled(name, () => {
      const adapted = this.#hooks.linear?.(this, site);
      const inputs = { x, w: site.weight, bias: site.biasValue };
      return adapted ?? this.recorder.apply(linear, inputs, { layout: site.layout });
    });
  }

  /** A sub-layer's output, before its residual, as an adapter may have it. */
  block(name: string, layer: number, x: Value): Value {
    return this.recorder.labelled(name, () => this.#hooks.block?.(this, { name, layer, x }) ?? x);
  }

  /** A layer's feed-forward, as a section that can be recomputed by itself. */
  feedForward(layer: number, body: () => Value): Value {
    return this.recorder.section(feedForwardSection(layer), body);
  }

  layerNorm(name: string, x: Value, eps: number): Value {
    const inputs = { x, weight: this.parameter(`${name}.weight`), bias: this.parameter(`${name}.bias`) };
    return this.recorder.labelled(name, () =>
      this.recorder.apply(layerNorm, inputs, { eps, keep: this.#keptByNorm(name) }),
    );
  }

  rmsNorm(name: string, x: Value, eps: number): Value {
    const inputs = { x, weight: this.parameter(`${name}.weight`) };
    return this.recorder.labelled(name, () =>
      this.recorder.apply(rmsNorm, inputs, { eps, keep: this.#keptByNorm(name) }),
    );
  }

  /** What a norm's gradients read: its output, where they can divide by its weight, else its input. */
  #keptByNorm(name: string): "x" | "y" {
    return this.#fragile.has(name) || this.#trained.has(`${name}.weight`) ? "x" : "y";
  }

  /** Drops elements while training; the identity otherwise. */
  dropout(x: Value, probability: number): Value {
    if (!this.isTraining || probability === 0) return x;
    return this.recorder.apply(dropout, { x, seed: this.seed }, { probability, salt: this.nextSalt() });
  }

  /** Scaled dot-product attention of separate q, k, v [b, t, heads * d]. */
  attention(name: string, qkv: { q: Value; k: Value; v: Value }, shape: AttentionShape): Value {
    const { q, k, v } = qkv;
    if (this.#cache) return this.#cached(name, { q, k: [k, 0], v: [v, 0] }, shape, this.#cache);
    const inputs = { ...qkv, mask: this.attentionMask, seed: this.seed };
    return this.recorder.labelled(name, () => this.recorder.apply(attention, inputs, this.#attributes(shape)));
  }

  /** The same on one fused q | k | v projection [b, t, 3 * heads * d]. */
  fusedAttention(name: string, qkv: Value, shape: AttentionShape): Value {
    const width = shape.heads * shape.headSize;
    if (this.#cache) return this.#cached(name, { q: qkv, k: [qkv, width], v: [qkv, 2 * width] }, shape, this.#cache);
    const inputs = { qkv, mask: this.attentionMask, seed: this.seed };
    return this.recorder.labelled(name, () => this.recorder.apply(fusedAttention, inputs, this.#attributes(shape)));
  }

  /** a + b, both [..., d]. */
  add(name: string, a: Value, b: Value): Value {
    return this.recorder.labelled(name, () => this.recorder.apply(add, { a, b }, {}));
  }

  #cached(name: string, sites: CachedSites, shape: AttentionShape, cache: CacheSpec): Value {
    return this.recorder.labelled(name, () => cache.attend(this.recorder, name, sites, cache, shape));
  }

  #attributes({ heads, kvHeads = heads, headSize, causal, dropout: probability }: AttentionShape) {
    const dropping = this.isTraining ? probability : 0;
    const salt = dropping > 0 ? this.nextSalt() : 0;
    return { heads, kvHeads, causal, scale: 1 / Math.sqrt(headSize), dropout: dropping, salt };
  }
}

/** The section that a layer's feed-forward is. */
export const feedForwardSection = (layer: number): string => `feed-forward of layer ${layer}`;

export interface AttentionShape {
  readonly heads: number;
  readonly kvHeads?: number;
  readonly headSize: number;
  readonly causal: boolean;
  /** Probability of dropping an attention weight while training. */
  readonly dropout: number;
}
