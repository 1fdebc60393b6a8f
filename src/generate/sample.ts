import type { Random } from "../base/random";

/** How a next token is drawn. */
export interface Sampling {
  readonly temperature: number;
  /** 0 keeps all tokens. */
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
  readonly seed: number;
}

/** Makes tokens that occur in a text less likely (`penalty` > 1), in place and once each: s * penalty for s < 0, else s / penalty. */
export function penalise(scores: Float64Array, text: Iterable<number>, penalty: number): void {
  if (penalty === 1) return;
  for (const id of new Set(text)) {
    const score = scores[id]!;
    scores[id] = score < 0 ? score * penalty : score / penalty;
  }
}

/**
 * Scores in place as transformers' warpers leave them, in their order: temperature, top-k, top-p, min-p. Tokens that are not kept
 * get the score -Infinity.
 */
export function warp(scores: Float64Array, { temperature, topK, topP, minP }: Sampling): void {
  for (let token = 0; token < scores.length; token++) scores[token]! /= temperature;
  if (topK > 0 && topK < scores.length) {
    // Scores that equal the last one of the k stay.
    keep(scores, scores.slice().sort()[scores.length - topK]!);
  }
  if (topP < 1) keepLikeliest(scores, topP);
  if (minP > 0) keep(scores, scores[likeliestOf(scores)!]! + Math.log(minP));
}

/** A token with the probability softmax(scores). At least one score is finite. */
export function draw(scores: Float64Array, random: Random): number {
  const likeliest = likeliestOf(scores)!;
  const largest = scores[likeliest]!;
  const weights = scores.map((score) => Math.exp(score - largest));
  let rest = random.uniform() * weights.reduce((sum, weight) => sum + weight, 0);
  for (let token = 0; token < weights.length; token++) {
    const weight = weights[token]!;
    if (rest < weight) return token;
    rest -= weight;
  }
  // Rounding of the differences has left a little.
  return likeliest;
}

/** The token with the largest score, the first of equal ones; undefined if all are -Infinity. */
export function likeliestOf(scores: Float64Array): number | undefined {
  let best: number | undefined;
  let largest = -Infinity;
  for (let token = 0; token < scores.length; token++) {
    if (scores[token]! <= largest) continue;
    largest = scores[token]!;
    best = token;
  }
  return best;
}

/** Keeps tokens with at least this score. */
function keep(scores: Float64Array, least: number): void {
  for (let token = 0; token < scores.length; token++) if (scores[token]! < least) scores[token] = -Infinity;
}

/** Removes the least likely tokens while their probabilities together are at most 1 - topP; the likeliest token stays. */
function keepLikeliest(scores: Float64Array, topP: number): void {
  const ascending = scores.slice().sort();
  const largest = ascending.at(-1)!;
  const total = ascending.reduce((sum, score) => sum + Math.exp(score - largest), 0);
  let sum = 0;
  let removed = 0;
  for (; removed < ascending.length - 1; removed++) {
    sum += Math.exp(ascending[removed]! - largest) / total;
    if (sum > 1 - topP) break;
  }
  const least = ascending[removed]!;
  // Of tokens with the same score, those of lower ids are removed first, as by a stable sort.
  let equal = removed - ascending.indexOf(least);
  keep(scores, least);
  for (let token = 0; equal > 0; token++) {
    if (scores[token] !== least) continue;
    scores[token] = -Infinity;
    equal--;
  }
}
