// Vocabularies by byte-pair encoding (Sennrich et al. 2016): of pairs of characters within words, as Hugging Face's trainer makes
// WordPiece's, and of bytes, as GPT-2's.
import { addedToken, SPECIAL, wordPieceTokenizer } from "../wordpiece.mjs";

/** The order of pairs that are equally frequent, so that a vocabulary depends on the texts alone. */
const isBefore = (a, b) => a < b;

/**
 * Learns merges from words, each a list of symbols with its number of occurrences: the most frequent pair of neighbours becomes a symbol, again
 * and again. A pair that occurs once is never merged.
 * @param joined the symbol that a pair becomes.
 * @returns pairs in the order in which they were merged.
 */
export function learnMerges(words, count, joined) {
  const symbols = words.map(([word]) => [...word]);
  const counts = new Map();
  /** The words that have a pair, and some that had it. */
  const places = new Map();
  const key = (a, b) => `${a}\n${b}`;
  const change = (index, sign) => {
    const [word, times] = [symbols[index], words[index][1]];
    for (let i = 1; i < word.length; i++) {
      const pair = key(word[i - 1], word[i]);
      counts.set(pair, (counts.get(pair) ?? 0) + sign * times);
      if (sign < 0) continue;
      if (!places.has(pair)) places.set(pair, new Set());
      places.get(pair).add(index);
    }
  };
  for (const index of symbols.keys()) change(index, 1);
  const merges = [];
  while (merges.length < count) {
    let [best, most] = [undefined, 1];
    for (const [pair, times] of counts) {
      if (times > most || (times === most && best !== undefined && isBefore(pair, best))) [best, most] = [pair, times];
    }
    if (best === undefined) break;
    const [a, b] = best.split("\n");
    merges.push([a, b]);
    for (const index of places.get(best)) {
      change(index, -1);
      symbols[index] = merged(symbols[index], a, b, joined(a, b));
      change(index, 1);
    }
    counts.delete(best);
    places.delete(best);
  }
  return merges;
}

function merged(word, a, b, symbol) {
  const result = [];
  for (let i = 0; i < word.length; i++) {
    const isPair = word[i] === a && word[i + 1] === b;
    result.push(isPair ? symbol : word[i]);
    if (isPair) i++;
  }
  return result;
}

/** The words of texts by a pattern, with their numbers of occurrences. */
function wordCounts(texts, pattern) {
  const counts = new Map();
  for (const text of texts) for (const word of text.match(pattern) ?? []) counts.set(word, (counts.get(word) ?? 0) + 1);
  return counts;
}

/** The files of a WordPiece tokenizer of lower-case texts, with a vocabulary of at most `size` tokens. */
export function wordPiece(texts, size) {
  // What BERT's normaliser and pre-tokenizer make of a text: letters without accents, and every punctuation mark alone.
  const plain = texts.map((text) =>
    text
      .replaceAll("<unk>", " ")
      .normalize("NFD")
      .replace(/\p{Mn}/gu, "")
      .toLowerCase(),
  );
  const counts = wordCounts(plain, /[^\s\p{P}$+<=>^`|~]+|[\p{P}$+<=>^`|~]/gu);
  const words = [...counts].map(([word, times]) => [
    [...word].map((letter, i) => (i === 0 ? letter : `##${letter}`)),
    times,
  ]);
  const letters = new Map();
  for (const [word, times] of words) for (const symbol of word) letters.set(symbol, (letters.get(symbol) ?? 0) + times);
  // Letters of other scripts are rare, and would fill the vocabulary.
  const alphabet = [...letters]
    .filter(([, times]) => times >= 50)
    .map(([letter]) => letter)
    .sort();
  const known = new Set(alphabet);
  const spelt = words.filter(([word]) => word.every((symbol) => known.has(symbol)));
  const joined = (a, b) => a + b.slice(2);
  const merges = learnMerges(spelt, size - SPECIAL.length - alphabet.length, joined);
  const tokens = [...new Set([...SPECIAL, ...alphabet, ...merges.map(([a, b]) => joined(a, b))])];
  return {
    "tokenizer.json": wordPieceTokenizer(tokens),
    "tokenizer_config.json": {
      tokenizer_class: "BertTokenizer",
      do_lower_case: true,
      ...Object.fromEntries(SPECIAL.map((token) => [`${token.slice(1, -1).toLowerCase()}_token`, token])),
    },
  };
}

/** GPT-2's letters for bytes: printable ones stand for themselves, the others for those from 256 on. */
function byteLetters() {
  const isPrintable = (byte) => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(isPrintable(byte) ? byte : next++));
}

const END = "<|endoftext|>";

/** The files of a byte-level BPE tokenizer as GPT-2's, with a vocabulary of at most `size` tokens. */
export function byteLevel(texts, size) {
  const letters = byteLetters();
  const counts = wordCounts(texts, /'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu);
  const encoder = new TextEncoder();
  const words = [...counts].map(([word, times]) => [Array.from(encoder.encode(word), (byte) => letters[byte]), times]);
  const alphabet = [...letters].sort();
  const merges = learnMerges(words, size - alphabet.length - 1, (a, b) => a + b);
  const tokens = [...new Set([...alphabet, ...merges.map(([a, b]) => a + b), END])];
  const bytes = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true };
  return {
    "tokenizer.json": {
      version: "1.0",
      truncation: null,
      padding: null,
      added_tokens: [addedToken(tokens.indexOf(END), END)],
      normalizer: null,
      pre_tokenizer: bytes,
      post_processor: { ...bytes, trim_offsets: false },
      decoder: { ...bytes, add_prefix_space: true },
      model: {
        type: "BPE",
        dropout: null,
        unk_token: null,
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        fuse_unk: false,
        byte_fallback: false,
        ignore_merges: false,
        vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
        merges,
      },
    },
    "tokenizer_config.json": { tokenizer_class: "GPT2Tokenizer", bos_token: END, eos_token: END, unk_token: END },
  };
}
