import { characterAt } from "./aligned-text";
import { unknownToken } from "./vocabulary";
import type { Model, Vocabulary, WordToken } from "./vocabulary";
import { option } from "./step";
import type { Step } from "./step";

/** Every word is a token. */
export function wordLevelModel(step: Step, vocabulary: Vocabulary): Model {
  const unknown = unknownToken(step, vocabulary, "<unk>");
  return (word) => [{ id: vocabulary.get(word) ?? unknown(), from: 0, to: word.length }];
}

/**
 * A word is the longest token that begins it, then the longest one with the prefix for continued words, and so on (Wu et al.
 * 2016). A word that cannot be spelled, or is too long, is unknown as a whole.
 */
export function wordPieceModel(step: Step, vocabulary: Vocabulary): Model {
  const unknown = unknownToken(step, vocabulary, "[UNK]");
  const prefix = option(step, "continuing_subword_prefix", "string", "##");
  const longest = option(step, "max_input_chars_per_word", "number", 100);
  return (word) => {
    const tokens = [...word].length > longest ? undefined : pieces(word, prefix, vocabulary);
    return tokens ?? [{ id: unknown(), from: 0, to: word.length }];
  };
}

function pieces(word: string, prefix: string, vocabulary: Vocabulary): WordToken[] | undefined {
  const tokens: WordToken[] = [];
  for (let from = 0; from < word.length;) {
    let to = word.length;
    let id: number | undefined;
    for (; to > from; to -= isPairBefore(word, to) ? 2 : 1) {
      id = vocabulary.get((from > 0 ? prefix : "") + word.slice(from, to));
      if (id !== undefined) break;
    }
    if (id === undefined) return undefined;
    tokens.push({ id, from, to });
    from = to;
  }
  return tokens;
}

/** Whether the character before a unit has two units. */
function isPairBefore(text: string, unit: number): boolean {
  return unit >= 2 && characterAt(text, unit - 2).length === 2;
}
