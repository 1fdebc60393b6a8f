import { ConfigError } from "../base/errors";
import { originalName } from "../run/store";
import { add } from "../ops/add";
import { addBroadcast } from "../ops/add_broadcast";
import { attention } from "../ops/attention";
import type { relativeAttention } from "../ops/relative_attention";
import type { AttentionAttributes } from "../ops/shared/attention";
import { dropout } from "../ops/dropout";
import { embedding } from "../ops/embedding";
import { fusedAttention } from "../ops/fused_attention";
import { layerNorm } from "../ops/layer_norm";
import { linear } from "../ops/linear";
import { rmsNorm } from "../ops/rms_norm";
import { scale } from "../ops/scale";
import type { Recorder, Value } from "../tape/tape";
import type { CachedShape, CacheSpec, CachedSites } from "./cache";
import type { BatchSize, ImageSpec, Model, ParameterSpec, Projection, TiedOutput } from "./model";

/** A projection with its operands, before it is recorded. Adapters receive it. */
export interface LinearSite extends Projection {
  /** Input [..., in]. */
  readonly x: Value;
  /** The weight in the projection's layout. */
  readonly weight: Value;
  /** The bias [out], of the checkpoint or of the adapter's `bias`; undefined if there is none. */
  readonly biasValue: Value | undefined;
}

/** The end of a sub-layer: its output, and what becomes of it. Adapters receive it. */
export interface BlockSite {
  /** Name of the sub-layer's module. */
  readonly name: string;
  /** Undefined where all layers are one. */
  readonly layer: number | undefined;
  /** The output [b, t, d], before its residual is added. */
  readonly x: Value;
  /** What it was computed of [b, t, d]: the residual, behind the norm in pre-norm models. */
  readonly input: Value;
  /** The residual [b, t, d] that is added to it. */
  readonly residual: Value;
  /** Records what becomes of the output, an adapter's change included, before the residual is added (stochastic depth). */
  readonly passing?: (x: Value) => Value;
  /** Records the norm of the sum, in post-norm models. */
  readonly norm?: (sum: Value) => Value;
}

/** What an adapter may change while a model is traced. A hook that returns undefined changes nothing. */
export interface ForwardHooks {
  /** Number of virtual tokens that `embedded` prepends to each text. */
  readonly virtualTokens?: number;
  /** Changes the token embeddings [b, t, d] before positions are added (prompt tuning). */
  embedded?(forward: Forward, x: Value): Value;
  /** Number of keys that `prefixed` puts before those of each text, whose positions continue behind them. */
  readonly prefixTokens?: number;
  /** Records a layer's attention with keys and values before those of the text: [b, t, heads * headSize] (prefix tuning). */
  prefixed?(forward: Forward, site: AttentionSite): Value | undefined;
  /** A bias [out] for a projection that has none. */
  bias?(forward: Forward, projection: Projection): Value | undefined;
  /** Records another value [..., out] in place of x W + bias. */
  linear?(forward: Forward, site: LinearSite): Value | undefined;
  /** Records another value [b, t, d] in place of a sub-layer's output (bottleneck adapters). */
  block?(forward: Forward, site: BlockSite): Value | undefined;
  /** What the last projection of a model reads whose weight is the embeddings' table. Default the table, trained or not. */
  tie?(model: Model): Tie | undefined;
  /** Carries hidden states x [b, t, d] through the layers in its own way (reversible layers). */
  stack?(forward: Forward, x: Value): LayerStack;
}

/** An attention before it is recorded. Adapters receive it. */
export interface AttentionSite {
  readonly name: string;
  readonly layer: number;
  /** q [b, t, heads * headSize], k and v [b, t, kvHeads * headSize]; or one tensor with all three side by side. */
  readonly inputs: readonly Value[];
  readonly shape: AttentionShape;
  /** The cache to which keys and values are added; undefined where there is none. */
  readonly cache: CacheSpec | undefined;
  /** Attributes of the op for heads of a number. */
  attributes(heads: CachedShape): AttentionAttributes;
}

/** Name of an input, for texts that begin behind the keys of a prefix. */
export const behindPrefix = (input: string): string => `${input} behind a prefix`;

/** Number of tokens and keys that an adapter puts before each text. */
export const tokensBefore = ({ virtualTokens = 0, prefixTokens = 0 }: ForwardHooks = {}): number =>
  virtualTokens + prefixTokens;

/**
 * What a last projection reads beside an adapter that trains it or the embeddings' table: the table as the adapter trains it; the
 * table as it was loaded; or a weight of its own, which is a tensor of the adapter, `MODULE.weight`.
 */
export type Tie = "shared" | "original" | "own";

/** Hidden states on their way through a model's layers. */
export interface LayerStack {
  /** Records a layer. Layers are recorded in their order. */
  layer(index: number): void;
  /** Records what the head would read now [b, t, d]. */
  hidden(): Value;
}

export interface ForwardOptions {
  readonly recorder: Recorder;
  readonly model: Model;
  readonly batch: BatchSize;
  readonly hooks?: ForwardHooks | undefined;
  /** Whether dropout is recorded. */
  readonly isTraining: boolean;
  /** Norms whose output cannot be inverted because a weight is close to zero: their gradients read their input. */
  readonly fragileNorms?: ReadonlySet<string> | undefined;
  /** Parameters that the run trains: the norms among them are treated as fragile, since training may bring them there. */
  readonly trained?: ReadonlySet<string> | undefined;
  /** Parameters to read as they were loaded, although an adapter trains copies of them. */
  readonly originals?: ReadonlySet<string> | undefined;
  /** Cache of keys and values, for generation. */
  readonly cache?: CacheSpec | undefined;
}

/** One forward pass of a model on a tape. Families record it by these methods; adapters act in them, and nowhere else. */
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
  #encoded: Value | undefined;
  readonly #specs: ReadonlyMap<string, ParameterSpec>;
  readonly #projections: ReadonlyMap<string, Projection>;
  #salt = 0;
  #layer = 0;
  #isOfBatch = false;

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

  /** Tokens of a row, virtual tokens included. */
  get length(): number {
    return this.batch.length + (this.#cache?.isContinuing ? 0 : (this.#hooks.virtualTokens ?? 0));
  }

  /** Whether each token of the batch has a position of its own, rather than all rows the same positions. */
  get #hasOwnPositions(): boolean {
    return this.#cache !== undefined || this.batch.isPacked === true;
  }

  /** Cosines and sines of positions for rotary embeddings, of the first `half` pairs of each head: [tokens, 2, half]. */
  rotation(name: string, half: number): Value {
    const rows = this.#hasOwnPositions ? this.batch.size * this.length : this.length;
    return this.recorder.input(this.#placed(name), [rows, 2, half]);
  }

  /** The input that depends on where texts begin. With a cache, the tokens' own positions are given. */
  #placed(input: string): string {
    return this.#hooks.prefixTokens && !this.#cache ? behindPrefix(input) : input;
  }

  /** A tensor of the checkpoint, by its full name. @throws ConfigError if the family does not have it. */
  parameter(name: string): Value {
    const spec = this.#specs.get(name);
    if (!spec) throw new ConfigError(`${this.model.family} has no tensor ${name}.`, "Use a name of its parameters.");
    return this.recorder.parameter(this.#originals.has(name) ? originalName(name) : name, spec.shape, spec.dtype);
  }

  /** The weight of a last projection that has none of its own: the embeddings' table, or what the adapter's `tie` says. */
  tiedWeight({ module, table }: TiedOutput): Value {
    const tie = this.#hooks.tie?.(this.model);
    if (tie === undefined || tie === "shared") return this.parameter(table);
    const { shape, dtype } = this.#specs.get(table)!;
    return tie === "own"
      ? this.recorder.parameter(`${module}.weight`, shape)
      : this.recorder.parameter(originalName(table), shape, dtype);
  }

  /** Token ids [size, length], without virtual tokens. */
  get inputIds(): Value {
    return this.recorder.input("input_ids", [this.batch.size, this.batch.length], "i32");
  }

  /** Token type ids [size, length]. */
  get tokenTypeIds(): Value {
    return this.recorder.input("token_type_ids", [this.batch.size, this.length], "i32");
  }

  /** Positions [length]: 0, 1, 2, ... */
  get positions(): Value {
    return this.recorder.input(this.#placed("positions"), [this.length], "i32");
  }

  /** Tokens of a row of the decoder of an encoder-decoder. */
  get #decoderLength(): number {
    return this.batch.targetLength ?? 0;
  }

  /** Most tokens that lie between a query and a key of the decoder, plus one. */
  get decoderCapacity(): number {
    return this.#cache?.capacity ?? this.#decoderLength;
  }

  /** 1 for every token of the decoder [size, targetLength]: causal attention does not reach the padding behind a text. */
  get decoderMask(): Value {
    return this.recorder.input("decoder_mask", [this.batch.size, this.#decoderLength], "i32");
  }

  /** RoBERTa's positions [size, length]: those of tokens that are not padding count from the padding id + 1. */
  get paddedPositions(): Value {
    return this.recorder.input(this.#placed("padded_positions"), [this.batch.size, this.length], "i32");
  }

  /** Images cut into patches [size, patches, values]. A patch's values are ordered by channel, row, column. */
  patches({ size, patch, channels }: ImageSpec): Value {
    const count = (size / patch) ** 2;
    return this.recorder.input("patches", [this.batch.size, count, channels * patch * patch]);
  }

  /** Index of each text's first token among all tokens of the batch [size]. */
  get firstTokens(): Value {
    return this.recorder.input("first_tokens", [this.batch.size], "i32");
  }

  /** Index of each text's last token that is not padding, among all tokens of the batch [size]. */
  get lastTokens(): Value {
    return this.recorder.input("last_tokens", [this.batch.size], "i32");
  }

  /** Weights of the mean of each text's tokens that are not padding [size, 1, length]. */
  get meanWeights(): Value {
    return this.recorder.input("mean_weights", [this.batch.size, 1, this.length]);
  }

  /** 1 for tokens that attention reads, 0 for padding [size, length]. In packed rows the number of a token's text, from 1. */
  get attentionMask(): Value {
    return this.recorder.input("attention_mask", [this.batch.size, this.length], "i32");
  }

  /** Seeds of the dropout masks: two words per text [size, 2], or two for all of what `ofBatch` records. */
  get seed(): Value {
    return this.#isOfBatch
      ? this.recorder.input("batch_seed", [1, 2], "u32")
      : this.recorder.input("seed", [this.batch.size, 2], "u32");
  }

  /**
   * Records what has no rows of texts, since all of them read it, such as a table for distances: its dropout has one mask, the
   * same in whichever parts a batch runs.
   */
  ofBatch(record: () => Value): Value {
    this.#isOfBatch = true;
    try {
      return record();
    } finally {
      this.#isOfBatch = false;
    }
  }

  /** The value of a key. The first call records it; later calls with the same key return it. */
  once(key: string, record: () => Value): Value {
    const value = this.#once.get(key) ?? record();
    this.#once.set(key, value);
    return value;
  }

  /** A number by which a dropout's mask differs from those of the trace's other dropouts. */
  nextSalt(): number {
    return ++this.#salt;
  }

  /** Token embeddings from a table [vocabulary, d] times a factor, changed by the adapter's `embedded`: [size, length, d]. */
  tokenEmbeddings(table: Value, factor = 1): Value {
    const embedded = this.recorder.apply(embedding, { table, ids: this.inputIds }, {});
    const x = factor === 1 ? embedded : this.recorder.apply(scale, { x: embedded }, { factor });
    return (this.#cache?.isContinuing ? undefined : this.#hooks.embedded?.(this, x)) ?? x;
  }

  /** Embeddings of what the decoder reads, the labels shifted right, from a table [vocabulary, d]: [size, targetLength, d]. */
  decoderEmbeddings(table: Value): Value {
    const ids = this.recorder.input("decoder_input_ids", [this.batch.size, this.#decoderLength], "i32");
    return this.recorder.apply(embedding, { table, ids }, {});
  }

  /**
   * x [size, length, d], in a decoder beside an encoder [size, targetLength, d], plus learned position embeddings from a table
   * [positions, d].
   */
  withPositions(x: Value, table: Value, stack?: "encoder" | "decoder"): Value {
    const length = x.shape[1]!;
    if (!this.#hasOwnPositions || stack === "encoder") {
      const ids = this.recorder.input(
        stack === "decoder" ? "decoder_positions" : this.#placed("positions"),
        [length],
        "i32",
      );
      const b = this.recorder.apply(embedding, { table, ids }, {});
      return this.recorder.apply(addBroadcast, { a: x, b }, {});
    }
    const ids = this.recorder.input("text_positions", [this.batch.size, length], "i32");
    return this.recorder.apply(add, { a: x, b: this.recorder.apply(embedding, { table, ids }, {}) }, {});
  }

  /**
   * A projection x W + bias, or what the adapter's `linear` records in its place: [..., in] to [..., out]. Where the
   * checkpoint has no bias, the adapter's `bias` may give one.
   */
  linear(name: string, x: Value): Value {
    const projection = this.#projections.get(name);
    if (!projection)
      throw new ConfigError(`${this.model.family} has no projection ${name}.`, "Use a name of its projections.");
    const site: LinearSite = {
      ...projection,
      x,
      weight: this.parameter(`${name}.weight`),
      biasValue: projection.bias ? this.parameter(`${name}.bias`) : this.#hooks.bias?.(this, projection),
    };
    return this.recorder.labelled(name, () => {
      const adapted = this.#hooks.linear?.(this, site);
      const inputs = { x, w: site.weight, bias: site.biasValue };
      return adapted ?? this.recorder.apply(linear, inputs, { layout: site.layout });
    });
  }

  /**
   * Ends a sub-layer: its output, or what the adapter's `block` records in its place, plus the residual; in post-norm models
   * the norm of the sum. [b, t, d].
   */
  block(site: BlockSite): Value {
    const sum = this.recorder.labelled(site.name, () => {
      const x = this.#hooks.block?.(this, site) ?? site.x;
      const a = site.passing?.(x) ?? x;
      return this.recorder.apply(add, { a, b: site.residual }, {});
    });
    return site.norm?.(sum) ?? sum;
  }

  /** The way of hidden states x [b, t, d] through the layers, of which `from` is the first: each is a section. */
  stack(x: Value, from = 0): LayerStack {
    const stack = from === 0 ? this.#hooks.stack?.(this, x) : undefined;
    if (stack) return stack;
    let hidden = x;
    return {
      layer: (index) => {
        this.#layer = index;
        hidden = this.recorder.section(layerSection(index), () =>
          this.model.layer(this, index, this.#entering(index, hidden)),
        );
      },
      hidden: () => hidden,
    };
  }

  /** What enters a layer: hidden states, but the first layer of a decoder is entered by the decoder's own embeddings. */
  #entering(index: number, hidden: Value): Value {
    const { encoderDecoder } = this.model;
    // With keys and values of the encoder's output in a cache, a trace begins with the decoder.
    if (index !== encoderDecoder?.encoderLayers || this.#cache?.isContinuing) return hidden;
    this.#encoded = encoderDecoder.encoded(this, hidden);
    return encoderDecoder.embed(this);
  }

  /** What a decoder attends to [size, length, hiddenSize]: the encoder's output. */
  get encoded(): Value {
    if (this.#encoded) return this.#encoded;
    throw new Error("The decoder is traced before the encoder's output is there.");
  }

  /** Records a layer's feed-forward as a section of its own, which can be recomputed separately. */
  feedForward(layer: number, body: () => Value): Value {
    return this.recorder.section(feedForwardSection(layer), body);
  }

  /** Layer norm over the last axis. Where the checkpoint has no bias, it is the input `zeros` of the family's constants. */
  layerNorm(name: string, x: Value, eps: number): Value {
    const bias = this.#specs.has(`${name}.bias`)
      ? this.parameter(`${name}.bias`)
      : this.recorder.input("zeros", [x.shape.at(-1)!]);
    const inputs = { x, weight: this.parameter(`${name}.weight`), bias };
    return this.recorder.labelled(name, () =>
      this.recorder.apply(layerNorm, inputs, { eps, keep: this.#keptByNorm(name) }),
    );
  }

  /** Root-mean-square norm over the last axis, or over each of its parts of the weight's size. */
  rmsNorm(name: string, x: Value, eps: number): Value {
    const inputs = { x, weight: this.parameter(`${name}.weight`) };
    const offset = this.#specs.get(`${name}.weight`)?.offset ?? 0;
    return this.recorder.labelled(name, () =>
      this.recorder.apply(rmsNorm, inputs, { eps, offset, keep: this.#keptByNorm(name) }),
    );
  }

  /** What a norm's gradients read: its output, where they can divide by its weight, else its input. */
  #keptByNorm(name: string): "x" | "y" {
    return this.#fragile.has(name) || this.#trained.has(`${name}.weight`) ? "x" : "y";
  }

  /** Dropout while training, otherwise x itself. */
  dropout(x: Value, probability: number): Value {
    if (!this.isTraining || probability === 0) return x;
    return this.recorder.apply(dropout, { x, seed: this.seed }, { probability, salt: this.nextSalt() });
  }

  /**
   * Scaled dot-product attention of q [b, t, heads * headSize] on k and v [b, s, kvHeads * headSize]. `mask` i32 [b, s] says
   * which keys count; default `attentionMask`, with s = t. `seed` u32 [b, 2] is that of dropout, where rows are not texts. Causal attention beside an encoder is the decoder's.
   */
  attention(name: string, inputs: AttentionInputs, shape: AttentionShape): Value {
    const { encoderDecoder } = this.model;
    const isDecoder = encoderDecoder !== undefined && shape.causal;
    const { q, k, v, seed = this.seed, relative } = inputs;
    const prefixed = this.#prefixed(name, [q, k, v], shape);
    if (prefixed) return prefixed;
    const mask = inputs.mask ?? (isDecoder ? this.decoderMask : this.attentionMask);
    const sizes = { ...shape, heads: headsIn(q, shape), kvHeads: headsIn(k, shape) };
    // An encoder reads complete texts.
    const cache = encoderDecoder && !shape.causal ? undefined : this.#cache;
    if (cache && inputs.mask) {
      throw new ConfigError(
        `${name}: generation has caches of a text's own keys alone.`,
        "Leave out mask, or record cached_attention with causal: false.",
      );
    }
    if (cache) return this.#cached(name, { q, k: [k, 0], v: [v, 0], relative: relative?.table }, sizes, cache);
    const attributes = this.#attributes(sizes, shape);
    const values = { q, k, v, mask, seed };
    return this.recorder.labelled(name, () => {
      if (!relative) return this.recorder.apply(attention, values, attributes);
      const { op, table, columns } = relative;
      const form = table.shape.length === 2 ? "numbers" : "rows";
      const all = { ...attributes, form, ...(columns !== undefined && { columns }) } as const;
      return this.recorder.apply(op, { ...values, relative: table }, all);
    });
  }

  /** Scaled dot-product attention of one tensor q | k | v [b, t, 3 * heads * headSize]. */
  fusedAttention(name: string, qkv: Value, shape: AttentionShape): Value {
    const prefixed = this.#prefixed(name, [qkv], shape);
    if (prefixed) return prefixed;
    const heads = headsIn(qkv, { headSize: 3 * shape.headSize });
    const width = heads * shape.headSize;
    const sizes = { ...shape, heads, kvHeads: heads };
    if (this.#cache) return this.#cached(name, { q: qkv, k: [qkv, width], v: [qkv, 2 * width] }, sizes, this.#cache);
    const inputs = { qkv, mask: this.attentionMask, seed: this.seed };
    const attributes = this.#attributes(sizes, shape);
    return this.recorder.labelled(name, () => this.recorder.apply(fusedAttention, inputs, attributes));
  }

  /** What the adapter records of an attention. What continues a text finds the adapter's keys in its cache. */
  #prefixed(name: string, inputs: readonly Value[], shape: AttentionShape): Value | undefined {
    const cache = this.#cache;
    if (cache?.isContinuing) return undefined;
    const attributes = (sizes: CachedShape): AttentionAttributes => this.#attributes(sizes, shape);
    return this.#hooks.prefixed?.(this, { name, layer: this.#layer, inputs, shape, cache, attributes });
  }

  /**
   * Attention of a decoder's q [b, t, heads * headSize] to the encoder's output, of which `project` makes keys and values, each
   * [b, s, heads * headSize].
   */
  crossAttention(
    name: string,
    q: Value,
    project: (encoded: Value) => { readonly k: Value; readonly v: Value },
    shape: Omit<AttentionShape, "causal">,
  ): Value {
    const cache = this.#cache;
    if (!cache) return this.attention(name, { q, ...project(this.encoded) }, { ...shape, causal: false });
    const heads = headsIn(q, shape);
    const encoded = cache.isContinuing ? undefined : project(this.encoded);
    return this.recorder.labelled(name, () =>
      cache.attendEncoded(this.recorder, name, { q, encoded }, cache, { ...shape, heads, kvHeads: heads }),
    );
  }

  #cached(name: string, sites: CachedSites, sizes: CachedShape, cache: CacheSpec): Value {
    return this.recorder.labelled(name, () => cache.attend(this.recorder, name, sites, cache, sizes));
  }

  #attributes({ heads, kvHeads, headSize }: CachedShape, shape: AttentionShape): AttentionAttributes {
    const { causal, window, cap, segments = this.batch.isPacked, scale = 1 / Math.sqrt(headSize) } = shape;
    const dropout = this.isTraining ? shape.dropout : 0;
    const salt = dropout > 0 ? this.nextSalt() : 0;
    return {
      heads,
      kvHeads,
      scale,
      dropout,
      salt,
      ...(window !== undefined && { before: window, after: window }),
      ...(causal && { after: 0 }),
      ...(cap !== undefined && { cap }),
      ...(segments && { segments }),
    };
  }
}

/** Name of the section that a layer is. */
export const layerSection = (layer: number): string => `layer ${layer}`;

/** Name of the section of a layer's feed-forward. */
export const feedForwardSection = (layer: number): string => `feed-forward of layer ${layer}`;

/** Number of attention heads in a value [..., heads * headSize]; rounded, since a wrong config.json gives fractions. */
export const headsIn = (x: Value, { headSize }: Pick<AttentionShape, "headSize">): number =>
  Math.round((x.shape.at(-1) ?? 0) / headSize);

/** What an attention reads; see `Forward.attention`. */
export interface AttentionInputs {
  readonly q: Value;
  readonly k: Value;
  readonly v: Value;
  readonly mask?: Value | undefined;
  readonly seed?: Value | undefined;
  readonly relative?: RelativePositions | undefined;
}

/** How scores depend on differences of positions. */
export interface RelativePositions {
  /** The op, which only families that have such positions load. */
  readonly op: typeof relativeAttention;
  /** Numbers [entries, heads] or rows [entries, 2, heads * headSize], as the op reads them. */
  readonly table: Value;
  /** Columns of the grid on which tokens lie, row by row; default one row of all tokens. */
  readonly columns?: number | undefined;
}

/** Kind of an attention. How many heads it has follows from the widths of its inputs: pruned layers have fewer. */
export interface AttentionShape {
  readonly headSize: number;
  /** Whether tokens attend to earlier tokens only. */
  readonly causal: boolean;
  /**
   * Number of tokens before its own that a token attends to, and after it unless causal; all if absent. Hugging Face's
   * `sliding_window` of causal models counts the token itself and is one more.
   */
  readonly window?: number | undefined;
  /** Factor of the scores; default 1 / sqrt(headSize). */
  readonly scale?: number | undefined;
  /** Soft cap of the scores, cap * tanh(score / cap); none if absent. */
  readonly cap?: number | undefined;
  /** Whether tokens attend only to those of the same number in the mask; default in packed rows alone. */
  readonly segments?: boolean | undefined;
  /** Probability of dropping an attention weight while training. */
  readonly dropout: number;
}
