import { NotFiniteError } from "../base/errors";
import { Random } from "../base/random";
import { draw, likeliestOf, penalise, warp } from "./sample";
import type { Continuation, GenerateSettings } from "./options";

/** An unfinished continuation: its tokens, and the sum of their log-probabilities. */
interface Beam {
  readonly ids: readonly number[];
  readonly sum: number;
}

/** A beam extended by a token. `parent` is the beam's index. */
interface Candidate {
  readonly parent: number;
  readonly token: number;
  readonly sum: number;
}

/** The beams after a step: the newest token of each, and the index of the beam that it continues. */
export interface Advance {
  readonly tokens: readonly number[];
  readonly parents: readonly number[];
}

/**
 * The search for the continuation of one prompt. With one beam it is greedy, or draws each token (`sampling`); with more, it is the beam search of
 * transformers. Of the likeliest candidates, those that end are finished if they rank among the first `beams`, and the
 * others continue. The search is done when no beam's score (for its current length) beats the worst of `beams` finished
 * continuations.
 */
export class Search {
  #beams: readonly Beam[] = [{ ids: [], sum: 0 }];
  readonly #finished: Continuation[] = [];
  readonly #ends: ReadonlySet<number>;
  readonly #random: Random | undefined;
  #isDone = false;

  /** @param index of the prompt among all, so that what is drawn for it does not depend on batches. */
  constructor(
    private readonly prompt: readonly number[],
    private readonly settings: Omit<GenerateSettings, "batchSize">,
    index: number,
  ) {
    this.#ends = new Set(settings.endIds);
    this.#random = settings.sampling && new Random(settings.sampling.seed, index);
  }

  get isDone(): boolean {
    return this.#isDone;
  }

  /** Number of beams that need logits: 1 before the first step, 0 when the search is done. */
  get width(): number {
    return this.#isDone ? 0 : this.#beams.length;
  }

  /** The best continuation so far. */
  get best(): Continuation {
    const [finished] = this.#finished;
    if (finished) return finished;
    const beam = this.#beams[0]!;
    return { ids: beam.ids, score: this.#score(beam.sum, Math.max(1, beam.ids.length)), hasEnded: false };
  }

  /**
   * Extends the beams by a token.
   * @param logits of each beam's next token, [width][vocabulary].
   * @throws NotFiniteError for logits that are not finite.
   */
  advance(logits: readonly Float32Array[]): Advance {
    const { beams, maxNewTokens, forced } = this.settings;
    const length = this.#beams[0]!.ids.length + 1;
    const count = beams === 1 ? 1 : Math.max(2, 1 + this.#ends.size) * beams;
    const isLast = length === maxNewTokens;
    const candidates = this.#candidates(logits, count, isLast ? forced.last : length === 1 ? forced.first : undefined);
    const unfinished: Candidate[] = [];
    candidates.forEach((candidate, rank) => {
      const isEnd = this.#ends.has(candidate.token);
      const ids = isEnd ? this.#idsOf(candidate.parent) : [...this.#idsOf(candidate.parent), candidate.token];
      const hasEnded = isEnd || this.settings.isStopped?.(ids) === true;
      if (!hasEnded && !isLast) unfinished.push(candidate);
      else if (rank < beams) this.#finish({ ids, score: this.#score(candidate.sum, length), hasEnded });
    });
    const next = unfinished.slice(0, beams);
    const extended = next.map(({ parent, token, sum }) => ({ ids: [...this.#idsOf(parent), token], sum }));
    if (isLast || extended.length === 0 || this.#cannotImprove(extended, length)) {
      this.#isDone = true;
      return { tokens: [], parents: [] };
    }
    this.#beams = extended;
    return { tokens: next.map(({ token }) => token), parents: next.map(({ parent }) => parent) };
  }

  #idsOf(beam: number): readonly number[] {
    return this.#beams[beam]!.ids;
  }

  #score(sum: number, length: number): number {
    return sum / length ** this.settings.lengthPenalty;
  }

  #finish(continuation: Continuation): void {
    if (this.settings.earlyStopping && this.#finished.length === this.settings.beams) return;
    this.#finished.push(continuation);
    this.#finished.sort((a, b) => b.score - a.score);
    this.#finished.splice(this.settings.beams);
  }

  #cannotImprove(beams: readonly Beam[], length: number): boolean {
    if (this.#finished.length < this.settings.beams) return false;
    if (this.settings.earlyStopping || this.settings.beams === 1) return true;
    const worst = this.#finished.at(-1)!.score;
    return this.#score(beams[0]!.sum, length) <= worst;
  }

  /** The `count` best candidates of all beams, the best first, or the one that is drawn. A forced token has the probability 1. */
  #candidates(logits: readonly Float32Array[], count: number, forced: number | undefined): Candidate[] {
    const best: Candidate[] = [];
    this.#beams.forEach(({ ids, sum }, parent) => {
      if (forced !== undefined) {
        insert(best, { parent, token: forced, sum }, count);
        return;
      }
      const row = logits[parent]!;
      const { beams, ngramsOf, noRepeatNgram, repetitionPenalty, sampling } = this.settings;
      const text = [...this.prompt, ...ids];
      const banned = repeatedTokens(ngramsOf === "text" ? text : ids, noRepeatNgram);
      const offset = sum - logSumExp(row, ids.length);
      if (beams > 1) {
        // In transformers, the processed log-probabilities of beams are summed.
        const added = repetitionPenalty === 1 ? undefined : Float64Array.from(row, (logit) => logit + offset - sum);
        if (added) penalise(added, text, repetitionPenalty);
        let threshold = best.length < count ? -Infinity : best.at(-1)!.sum;
        for (let token = 0; token < row.length; token++) {
          const extended = added ? sum + added[token]! : row[token]! + offset;
          if (extended <= threshold || banned.has(token)) continue;
          insert(best, { parent, token, sum: extended }, count);
          if (best.length === count) threshold = best.at(-1)!.sum;
        }
        return;
      }
      const scores = Float64Array.from(row);
      penalise(scores, text, repetitionPenalty);
      for (const token of banned) scores[token] = -Infinity;
      const likeliest = likeliestOf(scores);
      if (likeliest === undefined) return;
      if (sampling) warp(scores, sampling);
      const token = this.#random ? draw(scores, this.#random) : likeliest;
      best.push({ parent, token, sum: row[token]! + offset });
    });
    return best;
  }
}

/** Inserts a candidate into a list of at most `maxLength` candidates in descending order of their sums. */
function insert(list: Candidate[], candidate: Candidate, maxLength: number): void {
  let index = list.length;
  while (index > 0 && list[index - 1]!.sum < candidate.sum) index--;
  list.splice(index, 0, candidate);
  if (list.length > maxLength) list.pop();
}

/** Tokens that would complete an n-gram of `size` tokens that a text contains already; none for a size of 0. */
function repeatedTokens(text: readonly number[], size: number): ReadonlySet<number> {
  const repeated = new Set<number>();
  if (size === 0 || text.length < size) return repeated;
  const prefix = text.slice(text.length - size + 1);
  for (let start = 0; start + size <= text.length; start++) {
    if (prefix.every((token, i) => token === text[start + i])) repeated.add(text[start + size - 1]!);
  }
  return repeated;
}

/** log(sum(exp(row))). @throws NotFiniteError for logits that are not finite. */
function logSumExp(row: Float32Array, step: number): number {
  let largest = -Infinity;
  for (const value of row) if (value > largest) largest = value;
  let total = 0;
  for (const value of row) total += Math.exp(value - largest);
  const result = largest + Math.log(total);
  if (Number.isFinite(result)) return result;
  throw new NotFiniteError(
    `A logit of new token ${step + 1} is not finite.`,
    "Check the adapter: the run that trained it may have diverged.",
    step,
    { what: "logit", value: result },
  );
}
