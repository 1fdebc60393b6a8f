import { DataError } from "../base/errors";
import { Random } from "../base/random";
import type { ImageSpec, Model } from "../model/model";
import type { Batch } from "./batch";
import { resumedPosition } from "./batch-state";
import type { BatchState } from "./batch-state";
import { IGNORED_LABEL } from "./sample";

/** An image as the input of a model, with its label. */
export interface ImageSample {
  /** [channels, rows, columns], normalised. */
  readonly pixels: Float32Array;
  /** A class, counted from 0, or IGNORED_LABEL. */
  readonly label: number;
}

export interface ImageBatchOptions {
  /** Number of images in a batch. */
  readonly size: number;
  /** Whether every epoch has another order, which `seed` decides. Default true. */
  readonly shuffle?: boolean;
  /** Any safe integer. Default 0. */
  readonly seed?: number;
}

/**
 * Endless batches of images, epoch after epoch. The last batch of an epoch is padded with images that the loss does not count.
 * @throws DataError for a model of texts, for no images, for images of another size, and for labels that the model does not
 * have.
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
    const valuesPerImage = spec.channels * spec.size ** 2;
    samples.forEach(({ pixels, label }, i) => {
      if (pixels.length !== valuesPerImage) {
        throw new DataError(
          `image ${i + 1} has ${pixels.length} values, not ${spec.channels} x ${spec.size} x ${spec.size}`,
          "resize images to the model's image_size",
        );
      }
      if (label === IGNORED_LABEL || (Number.isInteger(label) && label >= 0 && label < model.classes)) return;
      throw new DataError(
        `image ${i + 1} has the label ${label}; the model has ${model.classes} classes`,
        "number classes from 0",
      );
    });
    this.perEpoch = Math.ceil(samples.length / options.size);
  }

  /** The next batch. After the last one of an epoch, the next epoch begins. */
  next(): Batch {
    const { size, shuffle = true, seed = 0 } = this.options;
    const order = Uint32Array.from(this.samples, (_, i) => i);
    if (shuffle) new Random(seed, this.#epoch).shuffle(order);
    const ids = Int32Array.from(order.subarray(this.#position * size, (this.#position + 1) * size));
    if (++this.#position === this.perEpoch) [this.#position, this.#epoch] = [0, this.#epoch + 1];
    const samples = Array.from(ids, (i) => this.samples[i]!);
    return { ...imageBatch(samples, this.model, size), ids };
  }

  /** The current position, for `resume`. */
  save(): BatchState {
    const { size, seed = 0 } = this.options;
    return { epoch: this.#epoch, position: this.#position, samples: this.samples.length, size, seed };
  }

  /** Continues where `save` was called. @throws DataError if the number of samples, the batch size or the seed differ. */
  resume(saved: unknown): void {
    const { epoch, position } = resumedPosition(saved, this.save(), this.perEpoch);
    this.#epoch = epoch;
    this.#position = position;
  }

  /** The batches that are left in the current epoch. */
  *restOfEpoch(): Generator<Batch, void, undefined> {
    const epoch = this.#epoch;
    while (this.#epoch === epoch) yield this.next();
  }
}

/** The images that a model takes. @throws DataError for a model of texts. */
export function imageSpec(model: Model): ImageSpec {
  if (model.image) return model.image;
  throw new DataError(`${model.family} is a model of texts`, "give images to a model of images, such as ViT");
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

/** Normalisation of pixels: (value * rescale - mean) / deviation. */
export interface Normalisation {
  /** Default 1 / 255. */
  readonly rescale?: number;
  /** For each channel. Default 0.5, as in ViT's preprocessor_config.json. */
  readonly mean?: readonly number[];
  /** For each channel. Default 0.5. */
  readonly deviation?: readonly number[];
}

/** Normalises bytes [channels, rows, columns]. The result has the same layout. */
export function normalisePixels(bytes: ArrayLike<number>, channels: number, options: Normalisation = {}): Float32Array {
  const { rescale = 1 / 255, mean = [], deviation = [] } = options;
  const perChannel = bytes.length / channels;
  return Float32Array.from(bytes, (value, i) => {
    const channel = Math.floor(i / perChannel);
    return (value * rescale - (mean[channel] ?? 0.5)) / (deviation[channel] ?? 0.5);
  });
}
