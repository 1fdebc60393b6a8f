import * as v from "valibot";
import { DataError } from "../base/errors";
import { directoryAt } from "../io/directory-like";
import type { DirectoryLike } from "../io/directory-like";
import { checkSchema, parseJson } from "../io/json";
import { withoutSpace } from "./offsets";
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

/** A question about a text, with the answers that people gave. */
export interface SquadExample {
  readonly id: string;
  readonly question: string;
  readonly context: string;
  /** Answers, each with its start in `context`, in UTF-16 units. */
  readonly answers: readonly { readonly text: string; readonly start: number }[];
}

/**
 * Reads a JSON file of SQuAD v1.1.
 * @throws FileFormatError for another layout, DataError for a question without an answer, for an answer that is not at its
 * start, and for a file without questions.
 */
export async function readSquad(place: DirectoryLike, file: string): Promise<SquadExample[]> {
  const directory = await directoryAt(place);
  const where = `${file} in ${directory.name}`;
  const { data } = checkSchema(SQUAD, parseJson(await directory.read(file), where), where);
  const examples = data.flatMap(({ paragraphs }) =>
    paragraphs.flatMap(({ context, qas }) =>
      qas.map(({ id, question, answers }) => {
        const withStarts = answers.map(({ text, answer_start }) => {
          return { text, start: startUnit(context, answer_start, text) };
        });
        return { id, question, context, answers: withStarts };
      }),
    ),
  );
  for (const { id, context, answers } of examples) {
    if (answers.length === 0) throw new DataError(`${where}: question ${id} has no answers`, "use SQuAD v1.1, not v2");
    const misplaced = answers.find(({ text, start }) => !context.startsWith(text, start));
    if (misplaced === undefined) continue;
    throw new DataError(
      `${where}: the answer ${JSON.stringify(misplaced.text.slice(0, 40))} of question ${id} is not at ${misplaced.start}`,
      "answer_start counts characters of the context",
    );
  }
  if (examples.length === 0) throw new DataError(`${where} has no questions`, "give a file with at least one");
  return examples;
}

/** Start of an answer in UTF-16 units. SQuAD counts Unicode characters; files that count units are read, too. */
function startUnit(context: string, start: number, text: string): number {
  let unit = 0;
  for (let i = 0; i < start && unit < context.length; i++) unit += context.codePointAt(unit)! > 0xffff ? 2 : 1;
  return !context.startsWith(text, unit) && context.startsWith(text, start) ? start : unit;
}

export interface SquadOptions {
  /** Number of tokens of a window, including the question and special tokens. Default 384. */
  readonly maxLength?: number;
  /** Number of context tokens between the starts of two windows. Default 128. */
  readonly stride?: number;
  /** Maximum number of tokens of a question. Default 64. */
  readonly maxQuestion?: number;
}

/** A window of a question's context: a sample, and the positions of its tokens in the text. */
export interface SquadFeature {
  /** The question's id. */
  readonly id: string;
  /**
   * The label is the first and last of the tokens that cover the answer, as transformers finds them; 0 and 0 (the first special
   * token) if the window lacks a part of the answer.
   */
  readonly sample: Sample;
  /** Span [start, end) of each token in the context; undefined for other tokens. */
  readonly spans: readonly (readonly [number, number] | undefined)[];
}

/**
 * Splits every question's context into windows (Devlin et al. 2019, section 4.2). As in BERT's code, `stride` is the step from
 * one window to the next; in transformers it is their overlap.
 * @throws DataError if `maxLength` has no room for a context.
 */
export function squadFeatures(
  examples: readonly SquadExample[],
  tokenizer: Tokenizer,
  { maxLength = 384, stride = 128, maxQuestion = 64 }: SquadOptions = {},
): SquadFeature[] {
  return examples.flatMap((example) => {
    const question = tokenizer
      .encode(example.question.trimStart(), undefined, { specialTokens: false })
      .ids.slice(0, maxQuestion);
    const pieces = contextPieces(example.context, tokenizer);
    const frame = frameOf(tokenizer, question);
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
  /** As Python's tokenizers say. */
  readonly span: Span;
  readonly spanWithoutSpace: Span;
}

function contextPieces(context: string, tokenizer: Tokenizer): Piece[] {
  const { ids, spans } = tokenizer.encode(context, undefined, { specialTokens: false });
  return spans.map((span, i) => ({ id: ids[i]!, span, spanWithoutSpace: withoutSpace(context, span) }));
}

/** Token ids before and after a window's context. */
interface Frame {
  readonly before: readonly number[];
  readonly after: readonly number[];
  readonly typeOfContext: number;
}

/** The question and special tokens around a context, as the post-processor joins a pair of texts. */
function frameOf(tokenizer: Tokenizer, question: Int32Array): Frame {
  const [empty, pair] = [tokenizer.encode("", ""), tokenizer.encode("", "a")];
  const marker = pair.ids.findIndex((id, i) => id !== empty.ids[i]);
  const specialIds = [...empty.ids];
  const after = specialIds.slice(marker);
  const specialsBefore = specialIds.slice(0, marker);
  // The first special token precedes the question; the others follow it.
  const before = [...specialsBefore.slice(0, 1), ...question, ...specialsBefore.slice(1)];
  return { before, after, typeOfContext: pair.typeIds[marker] ?? 0 };
}

function feature(
  { id, answers }: SquadExample,
  { before, after, typeOfContext }: Frame,
  pieces: readonly Piece[],
): SquadFeature {
  const ids = Int32Array.from([...before, ...pieces.map((piece) => piece.id), ...after]);
  const typeIds = Int32Array.from(ids, (_, i) => (i < before.length ? 0 : typeOfContext));
  const spans = Array.from(ids, (_, i) => pieces[i - before.length]?.spanWithoutSpace);
  const covering = answers[0] && coveringPieces(answers[0], pieces);
  const label = Int32Array.from(covering ?? [-before.length, -before.length], (piece) => before.length + piece);
  return { id, sample: { ids, typeIds, label }, spans };
}

/**
 * The pieces from the last that begins no later than an answer to the first that ends no earlier, as transformers' example of
 * question answering has it; undefined if some of the answer, apart from white space at its ends, is not in the pieces.
 */
function coveringPieces(
  { text, start }: SquadExample["answers"][number],
  pieces: readonly Piece[],
): readonly [first: number, last: number] | undefined {
  // A tokenizer that strips accents leaves marks at the end of a word out of its span.
  const visible = text.replace(/[\p{M}\s]+$/u, "");
  const from = start + visible.length - visible.trimStart().length;
  if ((pieces[0]?.span[0] ?? Infinity) > from || (pieces.at(-1)?.span[1] ?? 0) < start + visible.length)
    return undefined;
  const first = Math.max(
    0,
    pieces.findLastIndex(({ span }) => span[0] <= start),
  );
  const last = pieces.findIndex(({ span }) => span[1] >= start + text.length);
  return [first, Math.max(first, last < 0 ? pieces.length - 1 : last)];
}

/** Scores of each token of a window as the start and as the end of an answer. */
export interface SpanScores {
  readonly start: ArrayLike<number>;
  readonly end: ArrayLike<number>;
}

export interface SpanOptions {
  /** Number of starts and of ends that are considered in each window. Default 20. */
  readonly best?: number;
  /** Maximum number of tokens of an answer. Default 30. */
  readonly maxLength?: number;
}

/**
 * The answer to each question, by id: the text of the context with the highest sum of start and end scores in any window. It
 * is empty if no window has a valid pair of start and end.
 * @param scores for each of `features`.
 * @throws DataError for scores that are not finite.
 */
export function decodeSpans(
  examples: readonly SquadExample[],
  features: readonly SquadFeature[],
  scores: readonly SpanScores[],
  { best: count = 20, maxLength = 30 }: SpanOptions = {},
): Map<string, string> {
  const best = new Map<string, { readonly score: number; readonly span: readonly [number, number] }>();
  features.forEach(({ id, spans }, i) => {
    const { start, end } = scores[i]!;
    checkScores(id, start, end, spans.length);
    for (const from of highest(start, spans, count)) {
      for (const to of highest(end, spans, count)) {
        if (to < from || to - from >= maxLength) continue;
        const score = start[from]! + end[to]!;
        const span = [spans[from]![0], spans[to]![1]] as const;
        if (score > (best.get(id)?.score ?? -Infinity)) best.set(id, { score, span });
      }
    }
  });
  return new Map(
    examples.map(({ id, context }) => {
      const span = best.get(id)?.span;
      return [id, span ? context.slice(...span) : ""];
    }),
  );
}

/** Checks the scores of a window's tokens. Those of padding after them do not matter. */
function checkScores(id: string, start: ArrayLike<number>, end: ArrayLike<number>, tokens: number): void {
  for (let i = 0; i < tokens; i++) {
    if (Number.isFinite(start[i]) && Number.isFinite(end[i])) continue;
    throw new DataError(`a score of question ${id} is not finite`, "check the adapter: its training may have diverged");
  }
}

/** Indices of the `count` context tokens with the highest scores. */
function highest(scores: ArrayLike<number>, spans: SquadFeature["spans"], count: number): number[] {
  const inside = spans.flatMap((span, i) => (span ? [i] : []));
  return inside.sort((a, b) => scores[b]! - scores[a]!).slice(0, count);
}
