import { DataError } from "../base/errors";
import { Random } from "../base/random";
import type { ImageSpec, Model } from "../model/model";
import type { Batch } from "./batch";
import { checkedPlace } from "./place";
import type { BatchState } from "./place";
import { IGNORED_LABEL } from "./sample";

/** An image as a model sees it: [channels, rows, columns], normalised. */
export interface ImageSample {
  readonly pixels: Float32Array;
  readonly label: number;
}

export interface ImageBatchOptions {
  /** Images of a batch. */
  readonly size: number;
  /** Another order in every epoch, from `seed`; default true. */
  readonly shuffle?: boolean;
  readonly seed?: number;
}

/**
 * Endless batches of images, epoch after epoch; the last one of an epoch is filled with images that no loss counts.
 * @throws DataError for a model of texts, no images, one of another size, or a label that the model does not have.
 */
export class ImageBatches {
  readonly perEpoch: number;
  #epoch = 0;
  #position = 0;

  constructor(
    readonly samples: readonly ImageSample[],
    private readonly model: Model,
    private readonly options: ImageBatchOptions,
  ) {
    const spec = imageSpec(model);
    if (samples.length === 0) throw new DataError("there are no images", "give at least one");
    const wanted = spec.channels * spec.size ** 2;
    samples.forEach(({ pixels, label }, i) => {
      if (pixels.length !== wanted) {
        throw new DataError(
          `image ${i + 1} has ${pixels.length} values, not ${spec.channels} x ${spec.size} x ${spec.size}`,
          "resize images to the model's image_size",
        );
      }
      if (label === IGNORED_LABEL || (Number.isInteger(label) && label >= 0 && label < model.classes)) return;
      throw new DataError(
        `image ${i + 1} has the label ${label}; the model has ${model.classes} classes`,
        "map labels from 0",
      );
    });
    this.perEpoch = Math.ceil(samples.length / options.size);
  }

  /** The next batch; after an epoch's last one the next epoch begins. */
  next(): Batch {
    const { size, shuffle = true, seed = 0 } = this.options;
    const order = Uint32Array.from(this.samples, (_, i) => i);
    if (shuffle) new Random(seed, this.#epoch).shuffle(order);
    const ids = Int32Array.from(order.subarray(this.#position * size, (this.#position + 1) * size));
    if (++this.#position === this.perEpoch) [this.#position, this.#epoch] = [0, this.#epoch + 1];
    const chosen = Array.from(ids, (i) => this.samples[i]!);
    return { ...imageBatch(chosen, this.model, size), ids };
  }

  save(): BatchState {
    const { size, seed = 0 } = this.options;
    return { epoch: this.#epoch, position: this.#position, samples: this.samples.length, size, seed };
  }

  /** Goes on where `save` was called. @throws DataError where samples, batch size or seed are not the same. */
  resume(saved: unknown): void {
    const { epoch, position } = checkedPlace(saved, this.save(), this.perEpoch);
    this.#epoch = epoch;
    this.#position = position;
  }

  /** What is left of the current epoch. */
  *restOfEpoch(): Generator<Batch, void, undefined> {
    const epoch = this.#epoch;
    while (this.#epoch === epoch) yield this.next();
  }
}

/** @throws DataError for a model of texts. */
export function imageSpec(model: Model): ImageSpec {
  if (model.image) return model.image;
  throw new DataError(`${model.family} is a model of texts`, "give images to a model of images, as ViT");
}

function imageBatch(samples: readonly ImageSample[], model: Model, size: number): Batch {
  const { channels, size: side } = imageSpec(model);
  const perImage = channels * side ** 2;
  const pixels = new Float32Array(size * perImage);
  samples.forEach((sample, i) => pixels.set(sample.pixels, i * perImage));
  const tokens = size * model.maxLength;
  return {
    size,
    length: model.maxLength,
    rows: samples.length,
    pixels,
    labels: Int32Array.from({ length: size }, (_, i) => samples[i]?.label ?? IGNORED_LABEL),
    inputIds: new Int32Array(tokens),
    tokenTypeIds: new Int32Array(tokens),
    attentionMask: new Int32Array(tokens).fill(1),
  };
}

/** How raw values become a model's: (value * rescale - mean) / deviation, by channel. */
export interface Normalisation {
  /** Default 1 / 255. */
  readonly rescale?: number;
  /** By channel; default 0.5, as ViT's preprocessor_config.json has it. */
  readonly mean?: readonly number[];
  readonly deviation?: readonly number[];
}

/** Bytes [channels, rows, columns] -> normalised values of the same layout. */
export function normalisePixels(bytes: ArrayLike<number>, channels: number, options: Normalisation = {}): Float32Array {
  const { rescale = 1 / 255, mean = [], deviation = [] } = options;
  const perChannel = bytes.length / channels;
  return Float32Array.from(bytes, (value, i) => {
    const channel = Math.floor(i / perChannel);
    return (value * rescale - (mean[channel] ?? 0.5)) / (deviation[channel] ?? 0.5);
  });
}
