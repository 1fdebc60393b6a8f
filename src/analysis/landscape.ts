import { ConfigError } from "../base/errors";
import { Random } from "../base/random";
import { columns } from "../base/shape";
import type { Batch } from "../data/batch";
import { LossSurface } from "./loss-surface";
import type { LossVariables } from "./loss-surface";
import type { AnalysisControl, Subject } from "./subject";
import { dot, norm } from "./vector";
import type { VectorLayout } from "./vector";

export interface LandscapeOptions extends AnalysisControl {
  /** Batches that define the loss: its mean over all their labels, without dropout. */
  readonly batches: Iterable<Batch>;
  /** Points along each direction. With an odd number the model itself is the middle one. Default 11. */
  readonly points?: number;
  /** Coordinates range from -span to span. Default 1. */
  readonly span?: number;
  /** Tensors that vary. Default "all", so that landscapes of different methods are comparable. */
  readonly over?: LossVariables;
  /**
   * Tensors with one axis (biases, norms, vectors): "move" as one filter each (default), or "fixed" as in the code of Li et al.
   * and of Park and Kim, where BitFit's and much of VeRA's landscape is flat by construction.
   */
  readonly vectors?: "move" | "fixed";
  /** Seed of the directions. Default 0. */
  readonly seed?: number;
}

/** Values of the loss on a plane. */
export interface Landscape {
  /** Coordinates of the points along each direction, increasing. */
  readonly coordinates: readonly number[];
  /** `losses[j][i]` is the loss at coordinate i of the first direction and j of the second; NaN if it is not finite. */
  readonly losses: readonly (readonly number[])[];
  /** Loss of the model itself. */
  readonly centre: number;
  /** Parameters that vary. */
  readonly parameters: number;
  /** Norms of the two directions. */
  readonly lengths: readonly [number, number];
}

/**
 * The loss on a plane through a fine-tuned model (Li et al. 2018, Visualizing the Loss Landscape of Neural Nets; SAFE, figure
 * 7a), along two random directions. Each row of both directions has the norm of the weights' row ("filter normalisation"), and
 * the second direction is orthogonal to the first, as a footnote of SAFE asks.
 * @throws ConfigError for wrong options or missing tensors, DataError without batches.
 */
export async function lossLandscape(subject: Subject, options: LandscapeOptions): Promise<Landscape> {
  const { batches, over = "all", vectors = "move", seed = 0 } = options;
  checkGrid(options);
  using surface = await LossSurface.open(subject, { batches, over, differentiable: false });
  const directions = randomDirections(surface.layout, surface.origin, seed, vectors);
  return await lossPlane((at) => surface.loss(at), surface.origin, directions, options);
}

/**
 * Two random directions at a point, orthogonal in every filter: both have the norm of the point's filter there. A filter is a
 * row of a tensor; a tensor whose rows are single numbers, or that has one axis, is one filter.
 * @param vectors whether tensors with one axis move.
 */
export function randomDirections(
  { segments, size }: VectorLayout,
  at: Float32Array,
  seed: number,
  vectors: "move" | "fixed" = "move",
): readonly [Float32Array, Float32Array] {
  const random = new Random(seed);
  const [first, second] = [new Float32Array(size), new Float32Array(size)];
  for (const { shape, offset, length } of segments) {
    if (shape.length < 2 && vectors === "fixed") continue;
    const rowWidth = shape.length < 2 ? 1 : columns(shape);
    const width = rowWidth === 1 ? length : rowWidth;
    for (let start = offset; start < offset + length; start += width) {
      const [a, b] = [0, 1].map(() => Float64Array.from({ length: width }, () => random.normal()));
      const filters = filterDirections(at.subarray(start, start + width), a!, b!);
      first.set(filters[0], start);
      second.set(filters[1], start);
    }
  }
  return [first, second];
}

/**
 * Directions of one filter, [width]: `a`, and what of `b` is orthogonal to it, each scaled to the norm of the weights. A filter
 * of one number has no orthogonal direction; its second one is 0.
 */
export function filterDirections(
  weights: ArrayLike<number>,
  a: Float64Array,
  b: Float64Array,
): readonly [Float64Array, Float64Array] {
  const share = dot(a, b) / dot(a, a);
  const orthogonal = b.map((x, i) => x - share * a[i]!);
  const scaled = (direction: Float64Array): Float64Array => {
    const factor = norm(weights) / norm(direction);
    return direction.map((x) => x * factor);
  };
  return [scaled(a), weights.length === 1 ? new Float64Array(1) : scaled(orthogonal)];
}

/** The values of a function on the plane through `origin` that two directions span. */
export async function lossPlane(
  lossAt: (at: Float32Array) => Promise<number>,
  origin: Float32Array,
  [first, second]: readonly [Float32Array, Float32Array],
  options: Omit<LandscapeOptions, "batches" | "over" | "vectors" | "seed">,
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
    `lossLandscape: ${points} points from ${-span} to ${span} are not a grid.`,
    "Give at least 3 points, and a span above 0.",
  );
}
