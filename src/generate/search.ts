import { NotFiniteError } from "../base/errors";
import type { Continuation, GenerateSettings } from "./options";
import { repeatedTokens } from "./repeats";

/** A continuation that goes on: tokens so far, and the sum of their log-probabilities. */
interface Beam {
  readonly ids: readonly number[];
  readonly sum: number;
}

/** One more token on one of the beams. */
interface Candidate {
  readonly parent: number;
  readonly token: number;
  readonly sum: number;
}

/** The beams after a step: each one's newest token, and which beam before it continues. */
export interface Advance {
  readonly tokens: readonly number[];
  readonly parents: readonly number[];
}

/**
 * The search for one prompt's continuation. With one beam it is greedy; with more, beam search as transformers has it: of
 * the likeliest candidates, those that end go to the finished ones if they rank among the first `beams`, the others go on,
 * and it is over when no beam's score (for its present length) beats the worst of `beams` finished ones.
 */
export class Search {
  #beams: readonly Beam[] = [{ ids: [], sum: 0 }];
  readonly #finished: Continuation[] = [];
  readonly #ends: ReadonlySet<number>;
  #isDone = false;

  constructor(
    private readonly prompt: readonly number[],
    private readonly settings: Omit<GenerateSettings, "batchSize">,
  ) {
    this.#ends = new Set(settings.endIds);
  }

  get isDone(): boolean {
    return this.#isDone;
  }

  /** Beams that want logits: 1 before the first step. */
  get width(): number {
    return this.#isDone ? 0 : this.#beams.length;
  }

  /** The best continuation so far. */
  get best(): Continuation {
    const [first] = this.#finished;
    if (first) return first;
    const [beam] = this.#beams as [Beam];
    return { ids: beam.ids, score: this.#score(beam.sum, Math.max(1, beam.ids.length)), hasEnded: false };
  }

  /**
   * Takes a step. @param logits each beam's next token's, [width][vocabulary].
   * @throws NotFiniteError where one is not a number.
   */
  advance(logits: readonly Float32Array[]): Advance {
    const { beams, maxNewTokens } = this.settings;
    const length = this.#beams[0]!.ids.length + 1;
    const keep = beams === 1 ? 1 : Math.max(2, 1 + this.#ends.size) * beams;
    const candidates = this.#candidates(logits, keep);
    const isLast = length === maxNewTokens;
    const going: Candidate[] = [];
    candidates.forEach((candidate, rank) => {
      const hasEnded = this.#ends.has(candidate.token);
      if (!hasEnded && !isLast) going.push(candidate);
      else if (rank < beams) this.#finish(candidate, length, hasEnded);
    });
    const next = going.slice(0, beams);
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

  #finish({ parent, token, sum }: Candidate, length: number, hasEnded: boolean): void {
    if (this.settings.earlyStopping && this.#finished.length === this.settings.beams) return;
    const ids = hasEnded ? this.#idsOf(parent) : [...this.#idsOf(parent), token];
    this.#finished.push({ ids, score: this.#score(sum, length), hasEnded });
    this.#finished.sort((a, b) => b.score - a.score);
    this.#finished.splice(this.settings.beams);
  }

  #cannotImprove(beams: readonly Beam[], length: number): boolean {
    if (this.#finished.length < this.settings.beams) return false;
    if (this.settings.earlyStopping || this.settings.beams === 1) return true;
    const worst = this.#finished.at(-1)!.score;
    return this.#score(beams[0]!.sum, length) <= worst;
  }

  /** The `keep` likeliest candidates of all beams, the likeliest first. */
  #candidates(logits: readonly Float32Array[], keep: number): Candidate[] {
    const best: Candidate[] = [];
    this.#beams.forEach(({ ids, sum }, parent) => {
      const row = logits[parent]!;
      const text = this.settings.ngramsOf === "text" ? [...this.prompt, ...ids] : ids;
      const banned = repeatedTokens(text, this.settings.noRepeatNgram);
      const offset = sum - logSumExp(row, ids.length);
      let bar = best.length < keep ? -Infinity : best.at(-1)!.sum;
      for (let token = 0; token < row.length; token++) {
        const own = row[token]! + offset;
        if (own <= bar || banned.has(token)) continue;
        insert(best, { parent, token, sum: own }, keep);
        if (best.length === keep) bar = best.at(-1)!.sum;
      }
    });
    return best;
  }
}

/** Puts a candidate into a list that is sorted by falling sums and has at most `most` entries. */
function insert(list: Candidate[], candidate: Candidate, most: number): void {
  let at = list.length;
  while (at > 0 && list[at - 1]!.sum < candidate.sum) at--;
  list.splice(at, 0, candidate);
  if (list.length > most) list.pop();
}

/** @throws NotFiniteError where a logit is not a number, or infinite. */
function logSumExp(row: Float32Array, step: number): number {
  let largest = -Infinity;
  for (const value of row) if (value > largest) largest = value;
  let total = 0;
  for (const value of row) total += Math.exp(value - largest);
  const result = largest + Math.log(total);
  if (Number.isFinite(result)) return result;
  throw new NotFiniteError(
    `A logit of new token ${step + 1} is not finite.`,
    "Check the adapter's weights: the run that trained it may have diverged.",
    step,
    { what: "logit", value: result },
  );
}
