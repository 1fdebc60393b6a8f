import type { Adapter } from "../adapter/adapter";
import type { LoadedModel } from "../io/load-model";
import type { CacheSpec } from "../model/cache";
import { ConfigError } from "../base/errors";
import { behindPrefix, Forward, tokensBefore } from "../model/forward";
import type { BatchSize } from "../model/model";
import type { TensorSpec } from "../op/declaration";
import { embedding } from "../ops/embedding";
import type { Executor, Inputs } from "../run/executor";
import type { TensorStore } from "../run/store";
import { specBytes } from "../tape/emit";
import { plan } from "../tape/plan";
import type { Plan } from "../tape/plan";
import { Recorder } from "../tape/tape";
import { Tensor } from "../tensor";
import { attendCached, attendEncoded, isCacheName } from "./cache";
import type { KeptCaches } from "./kept-caches";

/** A model, an adapter and what runs them. */
export interface GenerationParts {
  readonly loaded: LoadedModel;
  /** Default: none, so the model as it was loaded. */
  readonly adapter?: Adapter | undefined;
  readonly executor: Executor;
  readonly store: TensorStore;
  /** Caches that stay after the text, of one prompt without beams and without an encoder. Default: none stay. */
  readonly kept?: KeptCaches | undefined;
}

/** Sizes of a session. */
export interface SessionSizes {
  readonly prompts: number;
  /** Tokens of a prompt, padding included; of a decoder's, which is its start id, beside an encoder. */
  readonly length: number;
  /** Texts that grow from the prompts. */
  readonly rows: number;
  /** Most tokens of a text, virtual tokens included. */
  readonly capacity: number;
  /** Tokens of a text that an encoder reads, padding included and virtual tokens not; undefined without an encoder. */
  readonly sourceLength?: number | undefined;
  /** Whether the prompt follows tokens in kept caches. */
  readonly isContinuing?: boolean;
}

/** New tokens of some rows, and their positions. */
export interface NewTokens {
  /** [rows, length]. */
  readonly ids: Int32Array;
  /** [rows, capacity], as in `CacheRows`. */
  readonly owners: Int32Array;
  /** [rows], as in `CacheRows`. */
  readonly starts: Int32Array;
  /** [rows]: index of the token of each row whose logits are read. */
  readonly last: Int32Array;
  /** Further inputs: what an encoder reads, and where its output is in the caches. */
  readonly encoded?: Inputs;
}

/** The caches of keys and values of some texts, and the plans that add tokens to them. */
export class GenerationSession {
  readonly #caches: ReadonlyMap<string, Tensor>;
  readonly #prompt: Plan;
  readonly #token: Plan;
  /** Tokens of the longest text so far. */
  #longest = 0;

  private constructor(
    private readonly parts: GenerationParts,
    private readonly sizes: SessionSizes,
    plans: readonly [prompt: Plan, token: Plan],
    caches: ReadonlyMap<string, Tensor>,
  ) {
    [this.#prompt, this.#token] = plans;
    this.#caches = caches;
  }

  /**
   * Plans and allocates for prompts, followed by texts that grow token by token, and calls `body` with the session, which ends
   * with it. The executor then holds again what it held before.
   * @throws OutOfMemoryError when the driver has no memory, MemoryBudgetError when the caches and plans do not fit into the
   * budget of a run even without the plans of its steps, LimitError for a cache that is too large to bind; whatever `body`
   * throws.
   */
  static async run<T>(
    parts: GenerationParts,
    sizes: SessionSizes,
    body: (session: GenerationSession) => Promise<T>,
  ): Promise<T> {
    const { prompts, length, rows, capacity, sourceLength, isContinuing = false } = sizes;
    const { kept, loaded } = parts;
    const before = tokensBefore(parts.adapter);
    // An encoder reads the virtual tokens, so that what a decoder writes has none.
    const encoded = sourceLength === undefined ? undefined : { rows: prompts, capacity: before + sourceLength };
    // What is added to kept caches may take the place of what a longer text had left there, so that a window's has room for all.
    const longestAddition = kept ? capacity : length + (encoded ? 0 : before);
    const cache = { rows, capacity, longestAddition, encoded, attend: attendCached, attendEncoded };
    const batch = (size: number, tokens: number): BatchSize =>
      sourceLength === undefined ? { size, length: tokens } : { size, length: sourceLength, targetLength: tokens };
    const prompt = tokenPlan(parts, batch(prompts, length), { ...cache, isContinuing });
    const token = tokenPlan(parts, batch(rows, 1), { ...cache, isContinuing: true });
    const specs = new Map([...prompt.parameters].filter(([name]) => isCacheName(name)));
    const cacheBytes = [...specs.values()].reduce((sum, spec) => sum + specBytes(spec), 0);
    const generateBeside = async (): Promise<T> => {
      const make = () => allocate(loaded, specs);
      const caches = await (kept?.tensors(make) ?? make());
      try {
        return await body(new GenerationSession(parts, sizes, [prompt, token], caches));
      } finally {
        // The executor then holds again what it held before, which may need this memory.
        if (!kept) caches.forEach((tensor) => tensor.dispose());
      }
    };
    return parts.executor.beside([prompt, token], generateBeside, cacheBytes);
  }

  /** Reads prompts [prompts, length] and returns the logits that follow each: [prompts][vocabulary]. */
  prompts(tokens: NewTokens): Promise<Float32Array[]> {
    const isBefore = this.sizes.sourceLength === undefined && !this.sizes.isContinuing;
    const { virtualTokens, prefixTokens } = (isBefore ? this.parts.adapter : undefined) ?? {};
    return this.#run(this.#prompt, tokens, virtualTokens, prefixTokens);
  }

  /** Adds a token to every row [rows, 1] and returns the logits that follow each: [rows][vocabulary]. */
  next(tokens: NewTokens): Promise<Float32Array[]> {
    return this.#run(this.#token, tokens);
  }

  async #run(
    planned: Plan,
    { ids, owners, starts, last, encoded }: NewTokens,
    virtualTokens = 0,
    prefixTokens = 0,
  ): Promise<Float32Array[]> {
    const { executor, loaded, store } = this.parts;
    const { model } = loaded;
    const { firstPosition = 0 } = model;
    const { capacity, sourceLength } = this.sizes;
    const readLength = sourceLength === undefined ? undefined : tokensBefore(this.parts.adapter) + sourceLength;
    const rows = starts.length;
    const length = ids.length / rows + virtualTokens;
    const firsts = starts.map((start) => start + prefixTokens);
    const lastPosition = model.maxLength - 1;
    // Padding may lie beyond the last position. Nothing reads its results, so any position will do.
    const positions = Int32Array.from({ length: rows * length }, (_, i) =>
      Math.min(lastPosition, firsts[Math.floor(i / length)]! + (i % length)),
    );
    const longest = firsts.reduce((most, first, row) => Math.max(most, first + virtualTokens + last[row]! + 1), 0);
    const { constantsChangeAbove: limit = Infinity } = model;
    if (this.#longest > 0 && this.#longest <= limit && longest > limit) {
      throw new ConfigError(
        `This model rotates its keys otherwise in texts of more than ${limit} tokens, and a text has grown past them.`,
        "Generate fewer tokens, or give prompts that are longer than that.",
      );
    }
    this.#longest = longest;
    const inputs: Inputs = {
      [sourceLength === undefined ? "input_ids" : "decoder_input_ids"]: ids,
      owners,
      starts,
      [behindPrefix("starts")]: firsts,
      text_positions: positions.map((position) => firstPosition + position),
      ...model.constants?.(positions, { size: rows, length: readLength ?? longest, targetLength: capacity }),
      ...encoded,
      last_tokens: last.map((token, row) => row * length + virtualTokens + token),
    };
    const tensors = { lease: (name: string) => this.#caches.get(name)?.lease ?? store.lease(name) };
    const outputs = await executor.run(planned, tensors, inputs);
    const logits = outputs.get("logits")!;
    const width = logits.length / rows;
    return Array.from({ length: rows }, (_, row) => logits.subarray(row * width, (row + 1) * width));
  }
}

/** Plans a forward pass of new tokens, which adds them to the caches and gives the logits of one token of each row. */
function tokenPlan({ loaded, adapter }: GenerationParts, batch: BatchSize, cache: CacheSpec): Plan {
  const { model, fragileNorms, engine } = loaded;
  const recorder = new Recorder();
  const forward = new Forward({ recorder, model, batch, hooks: adapter, isTraining: false, fragileNorms, cache });
  const decoder = cache.isContinuing ? model.encoderDecoder : undefined;
  const from = decoder?.encoderLayers ?? 0;
  const stack = forward.stack((decoder ?? model).embed(forward), from);
  for (let index = from; index < model.layers; index++) stack.layer(index);
  const x = stack.hidden();
  const last = recorder.labelled("last token", () =>
    recorder.apply(embedding, { table: x, ids: forward.lastTokens }, {}),
  );
  const logits = model.head(forward, last);
  return plan(recorder, { outputs: { logits }, effects: true, limits: engine.device.limits });
}

function allocate(
  { engine }: LoadedModel,
  specs: ReadonlyMap<string, TensorSpec>,
): Promise<ReadonlyMap<string, Tensor>> {
  return engine.device.pool.checked("the keys and values of generated texts", () => {
    return new Map([...specs].map(([name, { shape }]) => [name, new Tensor(engine.device, shape, "f32", "scratch")]));
  });
}
