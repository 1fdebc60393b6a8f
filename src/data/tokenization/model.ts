import { mergingModel } from "./bpe";
import { unsupported } from "./step";
import type { Step } from "./step";
import { unigramModel } from "./unigram";
import type { Model, Vocabulary } from "./vocabulary";
import { wordLevelModel, wordPieceModel } from "./words";

/** The model of tokenizer.json. Old files do not name its type. @throws UnsupportedStep naming what is not supported. */
export function makeModel(step: Step, vocabulary: Vocabulary): Model {
  switch (step["type"] ?? impliedType(step)) {
    case "BPE":
      return mergingModel(step, vocabulary);
    case "Unigram":
      return unigramModel(step, vocabulary);
    case "WordPiece":
      return wordPieceModel(step, vocabulary);
    case "WordLevel":
      return wordLevelModel(step, vocabulary);
    default:
      throw unsupported("model", step);
  }
}

function impliedType(step: Step): string {
  if ("merges" in step) return "BPE";
  if ("continuing_subword_prefix" in step || "max_input_chars_per_word" in step) return "WordPiece";
  return Array.isArray(step["vocab"]) ? "Unigram" : "WordLevel";
}
