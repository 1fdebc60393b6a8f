import { DataError } from "../base/errors";
import { Random } from "../base/random";
import type { Batch } from "./batch";
import type { BatchState } from "./batch-state";
import { Batches } from "./batches";
import type { BatchOptions } from "./batches";
import { IGNORED_LABEL } from "./sample";
import type { Sample } from "./sample";
import type { Tokenizer } from "./tokenizer";

/** How tokens are masked. */
export interface MaskingOptions {
  /** Id of the token that hides others. */
  readonly maskId: number;
  /** Ids that are never predicted, such as those of [CLS] and [SEP]. Default none. */
  readonly specialIds?: readonly number[];
  /** Number of ids that a random token is drawn from. */
  readonly vocabularySize: number;
  /** Share of a text's tokens, without special ones, that are predicted, rounded, and at least one. Default 0.15. */
  readonly probability?: number;
}

/** A text without a label, which masking gives it. */
export type UnlabelledSample = Omit<Sample, "label">;

/**
 * How a tokenizer's texts are masked.
 * @throws DataError for a tokenizer without a mask token.
 */
export function maskingOf(tokenizer: Tokenizer): MaskingOptions {
  const maskId = tokenizer.specialId("mask");
  if (maskId === undefined) {
    throw new DataError(
      "the tokenizer has no mask token",
      "take the tokenizer of a masked language model, or name its mask_token in tokenizer_config.json",
    );
  }
  const roles = ["pad", "cls", "sep", "mask", "bos", "eos"] as const;
  const specialIds = roles.map((role) => tokenizer.specialId(role)).filter((id) => id !== undefined);
  return { maskId, specialIds, vocabularySize: tokenizer.vocabularySize };
}

/** Number of special tokens that a tokenizer puts around a text. */
export const specialCount = (tokenizer: Tokenizer): number => tokenizer.encode("").ids.length;

/**
 * Rows of blocks of text (`readBlocks`), each between the special tokens that the tokenizer puts around a text, as many as
 * `specialCount` says.
 */
export function framedSamples(blocks: readonly Int32Array[], tokenizer: Tokenizer): UnlabelledSample[] {
  const { ids: frame } = tokenizer.encode("");
  const middle = Math.ceil(frame.length / 2);
  return blocks.map((block) => ({
    ids: Int32Array.of(...frame.subarray(0, middle), ...block, ...frame.subarray(middle)),
  }));
}

/** Number of tokens of a text of so many, without special ones, that are predicted. */
export const maskedCount = (tokens: number, probability = 0.15): number =>
  Math.max(1, Math.round(probability * tokens));

/**
 * Endless batches for masked language modelling (Devlin et al. 2019). Of each text, tokens are drawn that the model predicts: 80 % of
 * them are replaced by the mask token, 10 % by a random one, and 10 % stay. The draw depends on the seed and on the number of the
 * batch since the first epoch's beginning, so that every epoch has other masks and two numbers are enough to resume.
 *
 * A batch's `labels` [size, targetLength] are the ids of the predicted tokens, whose positions in their rows are `predicted`.
 */
export class MaskedBatches {
  readonly #batches: Batches;
  readonly #masking: MaskingOptions;
  readonly #special: ReadonlySet<number>;
  readonly #seed: number;

  /** @throws DataError as `Batches` does, for a text of special tokens alone, and for a probability that is none. */
  constructor(
    samples: readonly UnlabelledSample[],
    {
      maskId,
      specialIds = [],
      vocabularySize,
      probability = 0.15,
      ...options
    }: MaskingOptions & Omit<BatchOptions, "labels">,
  ) {
    if (!(probability > 0 && probability <= 1)) {
      throw new DataError(
        `tokens cannot be masked with the probability ${probability}`,
        "give a number above 0, up to 1",
      );
    }
    this.#masking = { maskId, vocabularySize, probability };
    this.#special = new Set(specialIds);
    this.#seed = options.seed ?? 0;
    const labelled = samples.map((sample, index) => {
      const tokens = sample.ids.reduce((count, id) => count + (this.#special.has(id) ? 0 : 1), 0);
      if (tokens > 0) return { ...sample, label: new Int32Array(maskedCount(tokens, probability)) };
      throw new DataError(`sample ${index + 1} has no tokens but special ones`, "leave out empty texts");
    });
    this.#batches = new Batches(labelled, { ...options, labels: "target" });
  }

  /** Batches in one epoch. */
  get perEpoch(): number {
    return this.#batches.perEpoch;
  }

  /** The next batch. After the last one of an epoch, the next epoch begins. */
  next(): Batch {
    const { epoch, position, perEpoch } = this.#batches;
    // Orders of epochs are drawn from the streams that count from 0.
    const random = new Random(this.#seed, -1 - (epoch * perEpoch + position));
    // Rows have other contents in every epoch, so that samples have no numbers.
    const { ids: _numbers, ...batch } = this.#batches.next();
    return this.#masked(batch, random);
  }

  /** The batches that are left in the current epoch. */
  *restOfEpoch(): Generator<Batch, void, undefined> {
    const { epoch } = this.#batches;
    while (this.#batches.epoch === epoch) yield this.next();
  }

  /** The current position, for `resume`. */
  save(): BatchState {
    return this.#batches.save();
  }

  /** Continues where `save` was called. Throws as `Batches.resume`. */
  resume(saved: unknown): void {
    this.#batches.resume(saved);
  }

  #masked(batch: Batch, random: Random): Batch {
    const { rows, length, attentionMask, targetLength = 0 } = batch;
    const [inputIds, labels] = [batch.inputIds.slice(), new Int32Array(batch.labels.length).fill(IGNORED_LABEL)];
    const predicted = new Int32Array(labels.length);
    for (let row = 0; row < rows; row++) {
      const isToken = (at: number): boolean =>
        attentionMask[row * length + at] === 1 && !this.#special.has(inputIds[row * length + at]!);
      const tokens = Int32Array.from({ length }, (_, at) => at).filter(isToken);
      const count = maskedCount(tokens.length, this.#masking.probability);
      const chosen = random.shuffle(tokens).subarray(0, count).sort();
      for (const [i, at] of chosen.entries()) {
        const [from, to] = [row * length + at, row * targetLength + i];
        labels[to] = inputIds[from]!;
        predicted[to] = at;
        inputIds[from] = this.#hidden(inputIds[from]!, random);
      }
    }
    return { ...batch, inputIds, labels, predicted };
  }

  /** What stands in the place of a predicted token. */
  #hidden(id: number, random: Random): number {
    const { maskId, vocabularySize } = this.#masking;
    const draw = random.uniform();
    if (draw < 0.8) return maskId;
    return draw < 0.9 ? random.below(vocabularySize) : id;
  }
}
