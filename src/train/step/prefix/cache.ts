import { parseBytes } from "../../../base/bytes";
import { ConfigError } from "../../../base/errors";
import { decodeF16, encodeF16 } from "../../../base/float";
import type { Batch } from "../../../data/batch";
import type { Model } from "../../../model/model";
import type { PrefixCacheOptions, PrefixStore } from "../../options";
import { memoryPrefixStore } from "./store";

const DEFAULT_BYTES = 2e9;

/**
 * The hidden states that enter the lowest layer which still changes, row by row. Only tokens up to a text's last one are
 * kept: what stands in padding is masked, reaches no loss and gets no gradient, so that zeros do. When it is full, rows
 * that are in stay: an epoch reads every row once, so the one that was not used for longest is needed soonest.
 */
export class PrefixCache {
  readonly #limit: number;
  readonly #format: "f32" | "f16";
  readonly #isExact: boolean;
  readonly #store: PrefixStore;
  #of = "";

  /** The cache that a trainer's option asks for. @throws ConfigError */
  static of(option: boolean | PrefixCacheOptions | undefined, { hiddenSize }: Model): PrefixCache | undefined {
    return option ? new PrefixCache(option === true ? {} : option, hiddenSize) : undefined;
  }

  /** @throws ConfigError for a limit or a format that makes no sense. */
  constructor(
    { bytes = DEFAULT_BYTES, format = "f32", exact = format === "f32", store }: PrefixCacheOptions,
    private readonly width: number,
  ) {
    if (!["f32", "f16"].includes(format)) throw new ConfigError(`prefixCache.format is ${format}.`, "Give f32 or f16.");
    this.#limit = parseBytes(bytes, "prefixCache.bytes");
    this.#format = format;
    this.#isExact = exact;
    this.#store = store ?? memoryPrefixStore();
  }

  /** Bytes that it holds. */
  get bytes(): number {
    return this.#store.bytes;
  }

  /** Says what the prefix is now: rows of another one are forgotten. */
  async follow(prefix: string): Promise<void> {
    if (this.#of === prefix) return;
    this.#of = prefix;
    await this.#store.clear();
  }

  /** Hidden states [size, length, width] of a batch, where all its rows are here. */
  async read(batch: Batch): Promise<Float32Array | undefined> {
    const keys = this.#keys(batch);
    if (!keys?.every((key) => this.#store.has(key))) return undefined;
    const rows = await Promise.all(keys.map((key) => this.#store.get(key)));
    const perRow = batch.length * this.width;
    const hidden = new Float32Array(batch.size * perRow);
    for (const [i, row] of rows.entries()) {
      if (row === undefined) return undefined;
      const values = this.#decode(row);
      hidden.set(values.subarray(0, tokensOf(batch, i) * this.width), i * perRow);
    }
    return hidden;
  }

  /** Keeps a batch's hidden states, as far as there is room. */
  async write(batch: Batch, hidden: Float32Array): Promise<void> {
    const perRow = batch.length * this.width;
    for (const [i, key] of (this.#keys(batch) ?? []).entries()) {
      if (this.#store.has(key)) continue;
      const tokens = tokensOf(batch, i) * this.width;
      const bytes = tokens * (this.#format === "f32" ? 4 : 2);
      if (this.#store.bytes + bytes > this.#limit) continue;
      const row = this.#encode(hidden.slice(i * perRow, i * perRow + tokens));
      if (row) await this.#store.set(key, row);
    }
  }

  /** Keys of the rows that hold a sample; undefined where a batch does not tell which. */
  #keys({ ids, rows, size, length }: Batch): string[] | undefined {
    if (!ids || ids.length < rows) return undefined;
    const shape = this.#isExact ? ` in ${size} x ${length}` : "";
    return Array.from(ids.subarray(0, rows), (id) => `${id}${shape}`);
  }

  /** Undefined for values that the format cannot hold: such a row is computed each time. */
  #encode(values: Float32Array): Uint8Array | undefined {
    if (this.#format === "f32") return new Uint8Array(values.buffer);
    const codes = encodeF16(values);
    return codes.some((code) => (code & INFINITE) === INFINITE) ? undefined : new Uint8Array(codes.buffer);
  }

  #decode({ buffer, byteOffset, byteLength }: Uint8Array): Float32Array {
    if (this.#format === "f32") return new Float32Array(buffer, byteOffset, byteLength / 4);
    return decodeF16(new Uint16Array(buffer, byteOffset, byteLength / 2));
  }

  dispose(): void {
    this.#store.dispose();
  }
}

/** Exponent of f16's infinities and NaNs. */
const INFINITE = 0x7c00;

/** Tokens of a row up to its last one that is not padding. */
function tokensOf({ attentionMask, length }: Batch, row: number): number {
  return attentionMask.subarray(row * length, (row + 1) * length).lastIndexOf(1) + 1;
}
