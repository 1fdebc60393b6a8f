import type { Launch, Variant } from "../../op/launch";

/** A way to run a launch: a variant, or undefined for the launch as it is. */
export type Candidate = Variant | undefined;

/** The launch as it is, among the names of variants. */
export const PORTABLE = "portable";
export const nameOf = (candidate: Candidate): string => candidate?.name ?? PORTABLE;

/** Another way must take less than this share of the usual one's time: a change that noise decides is none. */
const GAIN = 0.97;

/**
 * The class that a launch is tuned in: kernel and entry, every size rounded to a power of two (768 and 1024 are one, 512
 * another), formats and layouts. Undefined for what has no variants.
 */
export function shapeClass({ kernel, entry, shape }: Launch): string | undefined {
  if (!shape) return undefined;
  const sizes = Object.entries(shape.sizes).map(([name, size]) => `${name}~${rounded(size)}`);
  return [`${kernel.name}.${entry}`, ...sizes, ...shape.traits].join(" ");
}

const rounded = (size: number): number => 2 ** Math.round(Math.log2(Math.max(1, size)));

/**
 * The ways among which a tuner chooses, the usual one first.
 * @param rounding whether ones that sum in another order may be taken; without it, all give the usual one's bits.
 */
export function candidates(
  { variants = [] }: Launch,
  usual: Candidate,
  { subgroup, rounding }: { readonly subgroup?: number | undefined; readonly rounding: boolean },
): Candidate[] {
  if (usual?.rounds && !rounding) return [usual];
  const fitting = variants.filter((one) => one.subgroup === undefined || one.subgroup === subgroup);
  const equal = fitting.filter(({ rounds = false }) => rounding || !rounds);
  return [...new Set([usual, undefined, ...equal])];
}

/** The name of the fastest, or the usual one where none is faster by enough. */
export function fastest(seconds: ReadonlyMap<string, number>, usual: string): string {
  const [best = usual, least = Infinity] = [...seconds].sort(([, a], [, b]) => a - b)[0] ?? [];
  return least < GAIN * (seconds.get(usual) ?? Infinity) ? best : usual;
}
