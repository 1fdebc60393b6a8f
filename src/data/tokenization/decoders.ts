import { tokenBytes } from "./byte-alphabet";
import { patternOf } from "./patterns";
import { innerSteps, option, unsupported } from "./step";
import type { Step } from "./step";

/** Makes the texts of tokens out of their spellings. */
export type Decoder = (tokens: readonly string[]) => readonly string[];

/** The decoder of tokenizer.json. @throws UnsupportedStep naming what is not supported. */
export function makeDecoder(step: Step): Decoder {
  switch (step["type"]) {
    case "Sequence": {
      const inner = innerSteps(step, "decoders").map(makeDecoder);
      return (tokens) => inner.reduce((decoded, decode) => decode(decoded), tokens);
    }
    case "ByteLevel":
      return (tokens) => [
        new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(tokens.flatMap(tokenBytes))),
      ];
    case "WordPiece":
      return wordPiece(option(step, "prefix", "string", "##"), option(step, "cleanup", "boolean", true));
    case "Metaspace":
      return metaspace(step);
    case "BPEDecoder": {
      const suffix = option(step, "suffix", "string", "</w>");
      return (tokens) => tokens.map((token, i) => token.replaceAll(suffix, i === tokens.length - 1 ? "" : " "));
    }
    case "CTC":
      return ctc(step);
    case "Replace": {
      const pattern = patternOf(step);
      const content = option(step, "content", "string", "");
      return (tokens) =>
        tokens.map((token) => {
          let [text, last] = ["", 0];
          for (const [from, to] of pattern(token)) {
            text += token.slice(last, from) + content;
            last = to;
          }
          return text + token.slice(last);
        });
    }
    case "Fuse":
      return (tokens) => [tokens.join("")];
    case "Strip":
      return strip(
        option(step, "content", "string", " "),
        option(step, "start", "number", 0),
        option(step, "stop", "number", 0),
      );
    case "ByteFallback":
      return byteFallback;
    default:
      throw unsupported("decoder", step);
  }
}

/** Spaces before punctuation and contractions, which tokenizers of English put there. */
const CLEAN_UP: readonly (readonly [string, string])[] = [
  [" .", "."],
  [" ?", "?"],
  [" !", "!"],
  [" ,", ","],
  [" ' ", "'"],
  [" n't", "n't"],
  [" 'm", "'m"],
  [" do not", " don't"],
  [" 's", "'s"],
  [" 've", "'ve"],
  [" 're", "'re"],
];

const cleanedUp = (text: string): string =>
  CLEAN_UP.reduce((cleaned, [from, to]) => cleaned.replaceAll(from, to), text);

function wordPiece(prefix: string, cleansUp: boolean): Decoder {
  const joined = (token: string): string => (token.startsWith(prefix) ? token.slice(prefix.length) : ` ${token}`);
  return (tokens) =>
    tokens.map((token, i) => {
      const text = i === 0 ? token : joined(token);
      return cleansUp ? cleanedUp(text) : text;
    });
}

function metaspace(step: Step): Decoder {
  const replacement = option(step, "replacement", "string", "\u2581");
  const isPlain = step["add_prefix_space"] === false && step["prepend_scheme"] === undefined;
  const addsSpace = !isPlain && option(step, "prepend_scheme", "string", "always") !== "never";
  return (tokens) => tokens.map((token, i) => token.replaceAll(replacement, i === 0 && addsSpace ? "" : " "));
}

function ctc(step: Step): Decoder {
  const padding = option(step, "pad_token", "string", "<pad>");
  const delimiter = option(step, "word_delimiter_token", "string", "|");
  const cleansUp = option(step, "cleanup", "boolean", true);
  return (tokens) =>
    tokens
      .filter((token, i) => token !== tokens[i - 1])
      .map((token) => token.replaceAll(padding, ""))
      .map((token) => (cleansUp ? cleanedUp(token).replaceAll(delimiter, " ") : token))
      .filter((token) => token !== "");
}

/** Removes up to so many of a character from the start and the end of every token. */
function strip(content: string, start: number, stop: number): Decoder {
  return (tokens) =>
    tokens.map((token) => {
      const characters = [...token];
      let [from, to] = [0, characters.length];
      while (from < Math.min(start, to) && characters[from] === content) from++;
      while (to > from && characters.length - to < stop && characters[to - 1] === content) to--;
      return characters.slice(from, to).join("");
    });
}

/** Bytes in a row are a text, or a replacement character each if they are not UTF-8. */
const byteFallback: Decoder = (tokens) => {
  const texts: string[] = [];
  let bytes: number[] = [];
  const flush = (): void => {
    if (bytes.length > 0) texts.push(utf8(Uint8Array.from(bytes)) ?? "\ufffd".repeat(bytes.length));
    bytes = [];
  };
  for (const token of tokens) {
    const [, byte] = /^<0x([0-9A-Fa-f]{2})>$/.exec(token) ?? [];
    if (byte !== undefined) {
      bytes.push(Number.parseInt(byte, 16));
      continue;
    }
    flush();
    texts.push(token);
  }
  flush();
  return texts;
};

function utf8(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}
