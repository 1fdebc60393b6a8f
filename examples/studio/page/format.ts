// Numbers in words.
import type { LifetimeBytes } from "../protocol";

export const LIFETIMES = ["weight", "state", "saved", "scratch"] as const;

/** As the report names them. */
export const LIFETIME_WORDS: Readonly<Record<(typeof LIFETIMES)[number], string>> = {
  weight: "weights",
  state: "adapter, gradients, moments",
  saved: "saved for backward",
  scratch: "scratch",
};

const UNITS = ["bytes", "kB", "MB", "GB", "TB"];

export function bytes(count: number): string {
  const power = Math.min(UNITS.length - 1, Math.max(0, Math.floor(Math.log10(Math.max(count, 1)) / 3)));
  return `${power === 0 ? count : (count / 1000 ** power).toFixed(power === 1 ? 0 : 2)} ${UNITS[power]!}`;
}

export const sumOf = (all: LifetimeBytes): number => LIFETIMES.reduce((sum, name) => sum + all[name], 0);

export function seconds(count: number): string {
  if (count < 90) return `${count < 10 ? count.toFixed(1) : Math.round(count)} s`;
  const minutes = Math.round(count / 60);
  return minutes < 90 ? `${minutes} min` : `${(minutes / 60).toFixed(1)} h`;
}

export const count = (value: number): string =>
  value >= 1e9
    ? `${(value / 1e9).toFixed(2)} billion`
    : value >= 1e6
      ? `${(value / 1e6).toFixed(2)} million`
      : value.toLocaleString("en");

export const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

/** A metric: shares as percentages, others as numbers. */
export const metric = (name: string, value: number): string =>
  name === "accuracy" ? percent(value) : value.toFixed(4);
