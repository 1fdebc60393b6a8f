import type { Launch, Variant } from "../../op/launch";
import { canRun } from "../variants";
import type { KernelAdapter } from "../variants";

/** A way to run a launch: a variant, or undefined for the launch itself. */
export type Candidate = Variant | undefined;

/** Name of the launch itself, among those of its variants. */
const PORTABLE = "portable";

/** Name of a candidate. */
export const nameOf = (candidate: Candidate): string => candidate?.name ?? PORTABLE;

/** A candidate replaces the usual one if it takes less than this share of its time, so that noise does not decide. */
const GAIN = 0.97;

/**
 * The class in which a launch is tuned: kernel and entry, sizes rounded to powers of two (768 becomes 1024), formats and
 * layouts. Undefined for a launch without variants.
 */
export function shapeClass({ kernel, entry, shape }: Launch): string | undefined {
  if (!shape) return undefined;
  const sizes = Object.entries(shape.sizes).map(([name, size]) => `${name}~${rounded(size)}`);
  return [`${kernel.name}.${entry}`, ...sizes, ...shape.traits].join(" ");
}

const rounded = (size: number): number => 2 ** Math.round(Math.log2(Math.max(1, size)));

/**
 * The candidates among which a tuner chooses, the usual one first.
 * @param rounding whether to include variants that sum in another order. Without them, every candidate gives the bits of the
 * usual one.
 */
export function candidates(
  { variants = [] }: Launch,
  usual: Candidate,
  { adapter, rounding }: { readonly adapter: KernelAdapter; readonly rounding: boolean },
): Candidate[] {
  if (usual?.rounds && !rounding) return [usual];
  const supported = variants.filter((variant) => !variant.half && canRun(variant, adapter));
  const allowed = supported.filter(({ rounds = false }) => rounding || !rounds);
  return [...new Set([usual, undefined, ...allowed])];
}

/** Name of the fastest candidate, or `usual` if no other one is clearly faster. @param seconds by name. */
export function fastest(seconds: ReadonlyMap<string, number>, usual: string): string {
  const [best = usual, least = Infinity] = [...seconds].sort(([, a], [, b]) => a - b)[0] ?? [];
  return least < GAIN * (seconds.get(usual) ?? Infinity) ? best : usual;
}
