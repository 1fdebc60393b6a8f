import { ConfigError } from "../base/errors";
import { Random } from "../base/random";
import { columns } from "../base/shape";
import type { Batch } from "../data/batch";
import { LossSurface } from "./loss-surface";
import type { Moved } from "./loss-surface";
import type { AnalysisControl, Subject } from "./subject";
import { dot, norm } from "./vector";
import type { VectorLayout } from "./vector";

export interface LandscapeOptions extends AnalysisControl {
  /** The loss is the mean over the labels of all of them, without dropout. */
  readonly batches: Iterable<Batch>;
  /** Points along either direction; an odd number has the model itself in the middle. Default 11. */
  readonly points?: number;
  /** Coordinates go from -span to span. Default 1. */
  readonly span?: number;
  /** What is moved. Default "all": every trained tensor, frozen or not, so that methods compare. */
  readonly over?: Moved;
  /** Seed of the directions. Default 0. */
  readonly seed?: number;
}

export interface Landscape {
  /** Of the points, along either direction, rising. */
  readonly coordinates: readonly number[];
  /** Loss at a coordinate of the second direction and one of the first: `losses[j][i]`. NaN where it is not finite. */
  readonly losses: readonly (readonly number[])[];
  /** Loss of the model itself. */
  readonly centre: number;
  /** Numbers that are moved, and how long either direction is. */
  readonly parameters: number;
  readonly lengths: readonly [number, number];
}

/**
 * The loss on a plane through a fine-tuned model (Li et al. 2018; SAFE's figure 7a): along two random directions whose rows
 * are as long as the rows of the weights they are added to, the second at right angles to the first.
 * @throws ConfigError for options that make no sense or tensors that are missing, DataError without batches.
 */
export async function lossLandscape(subject: Subject, options: LandscapeOptions): Promise<Landscape> {
  const { batches, over = "all", seed = 0 } = options;
  checkGrid(options);
  using surface = await LossSurface.open(subject, { batches, over, differentiable: false });
  const directions = randomDirections(surface.layout, surface.origin, seed);
  return await lossPlane((at) => surface.loss(at), surface.origin, directions, options);
}

/**
 * Two directions for a point: normal numbers, every row as long as the point's own row (a row of zeros stays where it is,
 * and so does a tensor of one axis: biases and norms), the second then made orthogonal to the first.
 */
export function randomDirections(
  layout: VectorLayout,
  at: Float32Array,
  seed: number,
): readonly [Float32Array, Float32Array] {
  const random = new Random(seed);
  const [first, second] = [filterNormalised(layout, at, random), filterNormalised(layout, at, random)];
  const share = dot(first, second) / Math.max(dot(first, first), Number.MIN_VALUE);
  return [first, second.map((x, i) => x - share * first[i]!)];
}

function filterNormalised({ segments, size }: VectorLayout, at: Float32Array, random: Random): Float32Array {
  const direction = new Float32Array(size);
  for (const { shape, offset, length } of segments) {
    if (shape.length < 2) continue;
    const width = columns(shape);
    for (let start = offset; start < offset + length; start += width) {
      const row = Float32Array.from({ length: width }, () => random.normal());
      const scale = norm(at.subarray(start, start + width)) / norm(row);
      direction.set(
        row.map((x) => x * scale),
        start,
      );
    }
  }
  return direction;
}

/** A function's values on the plane that two directions span. */
export async function lossPlane(
  lossAt: (at: Float32Array) => Promise<number>,
  origin: Float32Array,
  [first, second]: readonly [Float32Array, Float32Array],
  options: Omit<LandscapeOptions, "batches" | "over" | "seed">,
): Promise<Landscape> {
  const { points, span } = checkGrid(options);
  const { onProgress, signal } = options;
  const coordinates = Array.from({ length: points }, (_, i) => span * ((2 * i) / (points - 1) - 1));
  const centre = await lossAt(origin);
  const losses: number[][] = [];
  for (const b of coordinates) {
    const row: number[] = [];
    for (const a of coordinates) {
      signal?.throwIfAborted();
      const loss = await lossAt(origin.map((w, i) => w + a * first[i]! + b * second[i]!));
      row.push(Number.isFinite(loss) ? loss : NaN);
      onProgress?.(losses.length * points + row.length, points ** 2);
    }
    losses.push(row);
  }
  return { coordinates, losses, centre, parameters: origin.length, lengths: [norm(first), norm(second)] };
}

function checkGrid({ points = 11, span = 1 }: Pick<LandscapeOptions, "points" | "span">): {
  points: number;
  span: number;
} {
  if (Number.isInteger(points) && points >= 3 && span > 0 && Number.isFinite(span)) return { points, span };
  throw new ConfigError(
    `lossLandscape: ${points} points from ${-span} to ${span} make no plane.`,
    "Give at least 3 points, and a span above 0.",
  );
}
