import type { Share } from "../train/world";
import type { Id, Place, RoundPlan } from "./frame";

/** Weights are whole numbers up to this. */
const LARGEST_WEIGHT = 1000;
/** Rounds with new shares in which kernels are compiled, so that their times say nothing. */
const UNMEASURED = 2;
/** Rounds between two changes of shares, and the gain from which one is worth that the devices plan anew. */
const LEAST_ROUNDS = 8;
const LEAST_GAIN = 1.25;

/** A device's share by a plan; undefined where it has none. */
export function shareIn({ places }: RoundPlan, id: Id): Share | undefined {
  const rank = places.findIndex((place) => place.id === id);
  if (rank < 0) return undefined;
  const sum = (of: readonly Place[]): number => of.reduce((total, { weight }) => total + weight, 0);
  const start = sum(places.slice(0, rank));
  return { rank, count: places.length, start, end: start + places[rank]!.weight, total: sum(places) };
}

/** Weights in proportion to some numbers, the largest of which gets the largest weight. */
export function weightsOf(numbers: readonly number[]): number[] {
  const largest = Math.max(...numbers);
  return numbers.map((number) => Math.max(1, Math.round((number / largest) * LARGEST_WEIGHT)));
}

/** Chooses shares by how long devices took for theirs. */
export class Speeds {
  /** Weight per millisecond, smoothed. */
  #rates = new Map<Id, number>();
  #rounds = 0;

  /** Adds the milliseconds that each device took for a round. */
  add(places: readonly Place[], millis: ReadonlyMap<Id, number>): void {
    if (++this.#rounds <= UNMEASURED) return;
    for (const { id, weight } of places) {
      const taken = millis.get(id);
      if (taken === undefined || taken <= 0) continue;
      const rate = weight / taken;
      const before = this.#rates.get(id);
      this.#rates.set(id, before === undefined ? rate : 0.8 * before + 0.2 * rate);
    }
  }

  /** Places with other weights where these would make a round much shorter; otherwise the same places. */
  balance(places: readonly Place[]): readonly Place[] {
    const rates = places.map(({ id }) => this.#rates.get(id));
    if (this.#rounds < LEAST_ROUNDS || !rates.every((rate) => rate !== undefined)) return places;
    const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0);
    const now = Math.max(...places.map(({ weight }, i) => weight / rates[i]!));
    const balanced = sum(places.map(({ weight }) => weight)) / sum(rates);
    if (now < LEAST_GAIN * balanced) return places;
    this.reset();
    const weights = weightsOf(rates);
    return places.map(({ id }, i) => ({ id, weight: weights[i]! }));
  }

  /** Forgets what was measured, since shares have changed. */
  reset(): void {
    this.#rates = new Map();
    this.#rounds = 0;
  }
}
