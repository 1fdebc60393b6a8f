import { DataError } from "../base/errors";
import { directoryAt } from "../io/directory-like";
import type { DirectoryLike } from "../io/directory-like";
import type { AnswerSamples } from "./answers";
import type { Conversation } from "./chat";
import { readConversations } from "./jsonl";
import type { ConversationOptions } from "./jsonl";
import type { Sample } from "./sample";
import { lineError } from "./text-file";
import type { Tokenizer } from "./tokenizer";
import { readTsv } from "./tsv";

/** A text to read, and one to write. */
export interface TextPair {
  readonly source: string;
  readonly target: string;
  /** Whether the source has its special tokens already, as a chat template writes them. */
  readonly isComplete?: boolean;
  /** The weight that its message has, where that is neither 0 nor 1. */
  readonly weight?: number;
}

/**
 * Reads conversations of a text to read and one to write from a tab-separated file with the header `source`, `target`, or else
 * from JSON lines (`readConversations`).
 * @throws DataError with the line for another header, another number of columns or an empty text.
 */
export async function readPairs(
  place: DirectoryLike,
  file: string,
  options: ConversationOptions = {},
): Promise<Conversation[]> {
  const directory = await directoryAt(place);
  if (!file.endsWith(".tsv")) return readConversations(directory, file, options);
  const where = `${file} in ${directory.name}`;
  const [header, ...rows] = await readTsv(directory, file);
  if (header?.cells.join() !== "source,target") {
    throw lineError(where, 1, "the header is not source and target", "begin the file with source, a tab, target");
  }
  if (rows.length === 0) throw new DataError(`${where} has no rows`, "give a file with at least one");
  return rows.map(({ line, cells }) => {
    const [source = "", target = ""] = cells;
    if (cells.length !== 2 || source.trim() === "" || target.trim() === "") {
      throw lineError(where, line, "not two texts with a tab between them", "write both, without further tabs");
    }
    return [
      { text: source, isAnswer: false },
      { text: target, isAnswer: true },
    ];
  });
}

/** Every answer of conversations, as the text to write after all that precedes it. */
export function answerPairs(conversations: readonly Conversation[]): TextPair[] {
  return conversations.flatMap((turns) =>
    turns.flatMap(({ text, isAnswer, isComplete, weight }, i) => {
      const source = turns.slice(0, i).map((turn) => turn.text);
      return isAnswer
        ? [
            {
              source: source.join(""),
              target: text,
              ...(isComplete && { isComplete }),
              ...(weight !== undefined && { weight }),
            },
          ]
        : [];
    }),
  );
}

/**
 * Samples of an encoder-decoder: the tokens of a source, and as labels those of its target, each with the special tokens that
 * the tokenizer adds.
 * @param options.maxLength tokens at which both are cut. Default 512.
 * @throws DataError if no pair has tokens on both sides, and for weights.
 */
export function pairSamples(
  pairs: readonly TextPair[],
  tokenizer: Tokenizer,
  { maxLength = 512 }: { readonly maxLength?: number } = {},
): AnswerSamples {
  const samples: Sample[] = [];
  let truncated = 0;
  for (const { source, target, weight } of pairs) {
    if (weight !== undefined) {
      throw new DataError(
        `an answer has the weight ${weight}, and an encoder-decoder counts all alike`,
        "give messages the weight 1, or 0 to leave them out",
      );
    }
    const [read, written] = [source, target].map((text) => tokenizer.encode(text, undefined, { maxLength }));
    if (!read?.ids.length || !written?.ids.length) continue;
    if (read.removed + written.removed > 0) truncated++;
    samples.push({ ids: read.ids, label: written.ids });
  }
  if (samples.length === 0) throw new DataError("no pair has a text on both sides", "give at least one");
  return { samples, truncated, dropped: pairs.length - samples.length };
}
