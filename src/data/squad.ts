import * as v from "valibot";
import { DataError } from "../base/errors";
import type { Directory } from "../io/directory";
import { checkSchema, parseJson } from "../io/json";
import type { Span } from "./offsets";
import type { Sample } from "./sample";
import type { Tokenizer } from "./tokenizer";

const ANSWER = v.object({ text: v.string(), answer_start: v.pipe(v.number(), v.safeInteger(), v.minValue(0)) });
const SQUAD = v.object({
  data: v.array(
    v.object({
      paragraphs: v.array(
        v.object({
          context: v.string(),
          qas: v.array(v.object({ id: v.string(), question: v.string(), answers: v.array(ANSWER) })),
        }),
      ),
    }),
  ),
});

/** A question on a text, with the answers that people gave. */
export interface SquadExample {
  readonly id: string;
  readonly question: string;
  readonly context: string;
  /** `start` in UTF-16 units of `context`. */
  readonly answers: readonly { readonly text: string; readonly start: number }[];
}

/**
 * Reads SQuAD v1.1's JSON. Throws FileFormatError for another layout, DataError for a question without an answer, or an
 * answer that does not stand where it is said to.
 */
export async function readSquad(directory: Directory, file: string): Promise<SquadExample[]> {
  const where = `${file} in ${directory.name}`;
  const { data } = checkSchema(SQUAD, parseJson(await directory.read(file), where), where);
  const examples = data.flatMap(({ paragraphs }) =>
    paragraphs.flatMap(({ context, qas }) =>
      qas.map(({ id, question, answers }) => {
        const placed = answers.map(({ text, answer_start: at }) => ({ text, start: unitOf(context, at, text) }));
        return { id, question, context, answers: placed };
      }),
    ),
  );
  for (const { id, context, answers } of examples) {
    if (answers.length === 0) throw new DataError(`${where}: question ${id} has no answers`, "use SQuAD v1.1, not v2");
    const lost = answers.find(({ text, start }) => !context.startsWith(text, start));
    if (lost === undefined) continue;
    throw new DataError(
      `${where}: the answer ${JSON.stringify(lost.text.slice(0, 40))} of question ${id} is not at ${lost.start}`,
      "answer_start counts characters of the context",
    );
  }
  if (examples.length === 0) throw new DataError(`${where} has no questions`, "give a file with at least one");
  return examples;
}

/** SQuAD counts Unicode characters, JavaScript UTF-16 units. */
function unitOf(context: string, characters: number, text: string): number {
  if (context.startsWith(text, characters)) return characters;
  let unit = 0;
  for (let i = 0; i < characters && unit < context.length; i++) unit += context.codePointAt(unit)! > 0xffff ? 2 : 1;
  return unit;
}

export interface SquadOptions {
  /** Tokens of a window, question and special tokens included. Default 384. */
  readonly maxLength?: number;
  /** Tokens from a window's first to the next one's. Default 128. */
  readonly stride?: number;
  /** Most tokens of a question. Default 64. */
  readonly maxQuestion?: number;
}

/** One window of a context: a sample, and what is needed to find its answer in the text again. */
export interface SquadFeature {
  readonly id: string;
  /** Its label is the answer's first and last token, 0 and 0 (the first special token) where it is in no window. */
  readonly sample: Sample;
  /** Of each token: [start, end) in the context; undefined outside it. */
  readonly spans: readonly (readonly [number, number] | undefined)[];
}

/**
 * Windows of every question's context (Devlin et al. 2019, section 4.2). `stride` is BERT's: the step from one window to the
 * next, where transformers' is their overlap.
 */
export function squadFeatures(
  examples: readonly SquadExample[],
  tokenizer: Tokenizer,
  { maxLength = 384, stride = 128, maxQuestion = 64 }: SquadOptions = {},
): SquadFeature[] {
  return examples.flatMap((example) => {
    const question = tokenizer.encode(example.question, undefined, { specialTokens: false }).ids.slice(0, maxQuestion);
    const pieces = contextPieces(example.context, tokenizer);
    const frame = framing(tokenizer, question);
    const room = maxLength - frame.before.length - frame.after.length;
    if (room < 1) {
      throw new DataError(`a window of ${maxLength} tokens has no room for a context`, "allow longer windows");
    }
    const features: SquadFeature[] = [];
    for (let first = 0; first === 0 || first + room - stride < pieces.length; first += stride) {
      features.push(feature(example, frame, pieces.slice(first, first + room)));
      if (first + room >= pieces.length) break;
    }
    return features;
  });
}

interface Piece {
  readonly id: number;
  readonly span: Span;
}

function contextPieces(context: string, tokenizer: Tokenizer): Piece[] {
  const { ids, spans } = tokenizer.locate(context);
  return ids.map((id, i) => ({ id, span: spans[i]! }));
}

interface Frame {
  readonly before: readonly number[];
  readonly after: readonly number[];
  readonly typeOfContext: number;
}

/** What stands around the context: special tokens and the question, as the post-processor joins a pair. */
function framing(tokenizer: Tokenizer, question: Int32Array): Frame {
  const [empty, pair] = [tokenizer.encode("", ""), tokenizer.encode("", "a")];
  const marker = pair.ids.findIndex((id, i) => id !== empty.ids[i]);
  const specials = [...empty.ids];
  const after = specials.slice(marker);
  const middle = specials.slice(0, marker);
  // The first special token opens the question, the others close it.
  const before = [...middle.slice(0, 1), ...question, ...middle.slice(1)];
  return { before, after, typeOfContext: pair.typeIds[marker] ?? 0 };
}

function feature(
  { id, answers }: SquadExample,
  { before, after, typeOfContext }: Frame,
  pieces: readonly Piece[],
): SquadFeature {
  const ids = Int32Array.from([...before, ...pieces.map((piece) => piece.id), ...after]);
  const typeIds = Int32Array.from(ids, (_, i) => (i < before.length ? 0 : typeOfContext));
  const spans = Array.from(ids, (_, i) => pieces[i - before.length]?.span);
  const answer = answers[0];
  const start = answer ? pieces.findIndex(({ span }) => span[0] <= answer.start && answer.start < span[1]) : -1;
  const last = answer ? answer.start + answer.text.length - 1 : -1;
  const end = pieces.findLastIndex(({ span }) => span[0] <= last && last < span[1]);
  const isInside = start >= 0 && end >= start;
  const label = isInside ? Int32Array.of(before.length + start, before.length + end) : Int32Array.of(0, 0);
  return { id, sample: { ids, typeIds, label }, spans };
}

/** Scores of a window's tokens for being an answer's start and end. */
export interface SpanScores {
  readonly start: ArrayLike<number>;
  readonly end: ArrayLike<number>;
}

export interface SpanOptions {
  /** Starts and ends that are looked at in each window. Default 20. */
  readonly best?: number;
  /** Most tokens of an answer. Default 30. */
  readonly maxLength?: number;
}

/**
 * The text with the highest sum of start and end scores over a question's windows, by id; an end does not come before its
 * start, and both lie in the context. An empty text where no window has such a pair. Throws DataError for a score that is
 * not finite.
 */
export function decodeSpans(
  examples: readonly SquadExample[],
  features: readonly SquadFeature[],
  scores: readonly SpanScores[],
  { best = 20, maxLength = 30 }: SpanOptions = {},
): Map<string, string> {
  const found = new Map<string, { readonly score: number; readonly span: readonly [number, number] }>();
  features.forEach(({ id, spans }, i) => {
    const { start, end } = scores[i]!;
    checkScores(id, start, end, spans.length);
    for (const from of highest(start, spans, best)) {
      for (const to of highest(end, spans, best)) {
        if (to < from || to - from >= maxLength) continue;
        const score = start[from]! + end[to]!;
        const span = [spans[from]![0], spans[to]![1]] as const;
        if (score > (found.get(id)?.score ?? -Infinity)) found.set(id, { score, span });
      }
    }
  });
  return new Map(
    examples.map(({ id, context }) => {
      const span = found.get(id)?.span;
      return [id, span ? context.slice(...span) : ""];
    }),
  );
}

/** Padding behind a window's tokens may score anything. */
function checkScores(id: string, start: ArrayLike<number>, end: ArrayLike<number>, tokens: number): void {
  for (let i = 0; i < tokens; i++) {
    if (Number.isFinite(start[i]) && Number.isFinite(end[i])) continue;
    throw new DataError(`a score of question ${id} is not finite`, "check the adapter: its training may have diverged");
  }
}

function highest(scores: ArrayLike<number>, spans: SquadFeature["spans"], count: number): number[] {
  const inside = spans.flatMap((span, i) => (span ? [i] : []));
  return inside.sort((a, b) => scores[b]! - scores[a]!).slice(0, count);
}
