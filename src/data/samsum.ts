import * as v from "valibot";
import { DataError } from "../base/errors";
import { directoryAt } from "../io/directory-like";
import type { DirectoryLike } from "../io/directory-like";
import { checkSchema, parseJson } from "../io/json";
import type { Conversation } from "./chat";

/** A dialogue and its summary. */
export interface DialogueSummary {
  readonly id: string;
  /** Lines of `Name: text`. */
  readonly dialogue: string;
  readonly summary: string;
}

const FILE = v.array(v.object({ id: v.string(), dialogue: v.string(), summary: v.string() }));

/**
 * Reads a JSON file of SAMSum (Gliwa et al. 2019): a list of objects with id, dialogue and summary. Items whose dialogue or
 * summary is blank are skipped; the published training set has one.
 * @throws FileFormatError for a missing file, other JSON, or an item without these texts; DataError if nothing is left.
 */
export async function readSamsum(
  place: DirectoryLike,
  file: string,
): Promise<{ readonly examples: readonly DialogueSummary[]; readonly skipped: number }> {
  const directory = await directoryAt(place);
  const where = `${file} in ${directory.name}`;
  const items = checkSchema(FILE, parseJson(await directory.read(file), where), where);
  const examples = items
    .filter(({ dialogue, summary }) => dialogue.trim() !== "" && summary.trim() !== "")
    .map(({ id, dialogue, summary }) => ({ id, dialogue: dialogue.replaceAll("\r\n", "\n"), summary }));
  if (examples.length === 0) {
    throw new DataError(`${where} has no dialogue with a summary`, "give a file with at least one");
  }
  return { examples, skipped: items.length - examples.length };
}

/** What a language model continues with a summary: the dialogue, an empty line, and "Summary:". The format is this library's. */
export const summaryPrompt = ({ dialogue }: Pick<DialogueSummary, "dialogue">): string => `${dialogue}\n\nSummary:`;

/** Dialogues as conversations, whose answers are the summaries. */
export function summaryConversations(examples: readonly DialogueSummary[]): Conversation[] {
  return examples.map((example) => [
    { text: summaryPrompt(example), isAnswer: false },
    { text: ` ${example.summary}`, isAnswer: true },
  ]);
}
