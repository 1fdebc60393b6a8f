import { parseBytes } from "../../../base/bytes";
import { ConfigError } from "../../../base/errors";
import { decodeF16, encodeF16 } from "../../../base/float";
import type { Batch } from "../../../data/batch";
import type { Model } from "../../../model/model";
import type { PrefixCacheOptions, PrefixStore } from "../../options";
import { memoryPrefixStore } from "./store";

const DEFAULT_BYTES = 2e9;

/**
 * The input of the lowest layer that still changes, row by row. Rows are stored up to their last token that is not
 * padding: padded positions are masked, reach no loss and get no gradient, so zeros take their place. A full cache keeps
 * the rows that it has: an epoch reads every row once, so the row unused for longest is the one needed soonest.
 */
export class PrefixCache {
  readonly #maxBytes: number;
  readonly #format: "f32" | "f16";
  readonly #isExact: boolean;
  readonly #store: PrefixStore;
  /** Identifies the model below the layer; rows computed by another one are void. */
  #version = "";

  /** @throws ConfigError for an unknown format or an invalid number of bytes. */
  constructor(
    { bytes = DEFAULT_BYTES, format = "f32", exact = format === "f32", store }: PrefixCacheOptions,
    private readonly model: Pick<Model, "hiddenSize" | "states">,
  ) {
    if (!["f32", "f16"].includes(format)) throw new ConfigError(`prefixCache.format is ${format}.`, "Give f32 or f16.");
    this.#maxBytes = parseBytes(bytes, "prefixCache.bytes");
    this.#format = format;
    this.#isExact = exact;
    this.#store = store ?? memoryPrefixStore();
  }

  /** Bytes that the rows take. */
  get bytes(): number {
    return this.#store.bytes;
  }

  /** Removes all rows unless they were written under this version. */
  async keepOnly(version: string): Promise<void> {
    if (this.#version === version) return;
    this.#version = version;
    await this.#store.clear();
  }

  /** Hidden states of a batch above so many layers, of `statesShape`; undefined unless all its rows are stored. */
  async read(batch: Batch, layers: number): Promise<Float32Array | undefined> {
    const keys = this.#keys(batch);
    if (!keys?.every((key) => this.#store.has(key))) return undefined;
    const rows = await Promise.all(keys.map((key) => this.#store.get(key)));
    const { elementsPerRow, elementsOf } = this.#sizes(batch, layers);
    const hiddenStates = new Float32Array(batch.size * elementsPerRow);
    for (const [i, row] of rows.entries()) {
      if (row === undefined) return undefined;
      const values = this.#decode(row);
      hiddenStates.set(values.subarray(0, elementsOf(i)), i * elementsPerRow);
    }
    return hiddenStates;
  }

  /** Stores a batch's hidden states above so many layers, as far as there is room. */
  async write(batch: Batch, layers: number, hiddenStates: Float32Array): Promise<void> {
    const { elementsPerRow, elementsOf } = this.#sizes(batch, layers);
    for (const [i, key] of (this.#keys(batch) ?? []).entries()) {
      if (this.#store.has(key)) continue;
      const elements = elementsOf(i);
      const bytes = elements * (this.#format === "f32" ? 4 : 2);
      if (this.#store.bytes + bytes > this.#maxBytes) continue;
      const row = this.#encode(hiddenStates.slice(i * elementsPerRow, i * elementsPerRow + elements));
      if (row) await this.#store.set(key, row);
    }
  }

  /** Elements of a row, and of what is stored of each. */
  #sizes(batch: Batch, layers: number) {
    const { hiddenSize: width } = this.model;
    const states = this.model.states?.(layers) ?? { tokens: batch.length, width };
    return {
      elementsPerRow: states.tokens * states.width,
      // Images, whose tokens may be fewer than those of the batch, have no padding.
      elementsOf: (row: number) => Math.min(states.tokens, tokensOf(batch, row)) * states.width,
    };
  }

  /** Keys of the rows that hold a sample; undefined where a batch has no sample ids. */
  #keys({ ids, rows, size, length }: Batch): string[] | undefined {
    if (!ids || ids.length < rows) return undefined;
    const shape = this.#isExact ? ` in ${size} x ${length}` : "";
    return Array.from(ids.subarray(0, rows), (id) => `${id}${shape}`);
  }

  /** Undefined where the format cannot represent a value: such a row is computed each time. */
  #encode(values: Float32Array): Uint8Array | undefined {
    if (this.#format === "f32") return new Uint8Array(values.buffer);
    const codes = encodeF16(values);
    return codes.some((code) => (code & F16_INFINITY) === F16_INFINITY) ? undefined : new Uint8Array(codes.buffer);
  }

  #decode({ buffer, byteOffset, byteLength }: Uint8Array): Float32Array {
    if (this.#format === "f32") return new Float32Array(buffer, byteOffset, byteLength / 4);
    return decodeF16(new Uint16Array(buffer, byteOffset, byteLength / 2));
  }

  dispose(): void {
    this.#store.dispose();
  }
}

/** Exponent bits that are all set in f16's infinities and NaNs. */
const F16_INFINITY = 0x7c00;

/** Tokens of a row up to the last one that is not padding. */
function tokensOf({ attentionMask, length }: Batch, row: number): number {
  return attentionMask.subarray(row * length, (row + 1) * length).findLastIndex((text) => text !== 0) + 1;
}
