import { AlignedText } from "./aligned-text";
import type { Normalizer } from "./normalizers";
import { isWhiteSpace } from "./patterns";

/** A token that is found in a text before it is split into words. */
export interface AddedToken {
  readonly id: number;
  readonly content: string;
  /** Whether it is no part of a longer word. */
  readonly single_word: boolean;
  /** Whether it takes the white space before or after it. */
  readonly lstrip: boolean;
  readonly rstrip: boolean;
  /** Whether it is looked for in the normalized text. */
  readonly normalized: boolean;
  readonly special: boolean;
}

/** A part of a text: an added token, or what is split further. */
export interface Section {
  readonly text: AlignedText;
  readonly id?: number;
}

/** Cuts a text at added tokens, first at those in the text as it is, then at those in its normalized parts. */
export class AddedTokens {
  readonly #plain: Finder;
  readonly #normalized: Finder;

  constructor(
    tokens: readonly AddedToken[],
    private readonly normalize: Normalizer,
  ) {
    this.#plain = new Finder(tokens.filter(({ normalized }) => !normalized).map((token) => [token.content, token]));
    this.#normalized = new Finder(
      tokens
        .filter(({ normalized }) => normalized)
        .map((token) => [normalize(AlignedText.of(token.content)).text, token]),
    );
  }

  sections(text: string): Section[] {
    const cut = (section: Section, finder: Finder): readonly Section[] =>
      section.id === undefined && section.text.length > 0 ? finder.cut(section.text) : [section];
    return cut({ text: AlignedText.of(text) }, this.#plain).flatMap((section) =>
      section.id === undefined ? cut({ text: this.normalize(section.text) }, this.#normalized) : [section],
    );
  }
}

const WORD_END = /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]$/u;
const WORD_START = /^[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]/u;

class Finder {
  /** Tokens by their first unit, the longest first. */
  readonly #tokens = new Map<string, (readonly [content: string, token: AddedToken])[]>();

  constructor(tokens: readonly (readonly [content: string, token: AddedToken])[]) {
    for (const entry of tokens) {
      const first = entry[0].charAt(0);
      if (first !== "") this.#tokens.set(first, [...(this.#tokens.get(first) ?? []), entry]);
    }
    for (const entries of this.#tokens.values()) entries.sort(([a], [b]) => b.length - a.length);
  }

  cut(aligned: AlignedText): Section[] {
    const { text } = aligned;
    const sections: Section[] = [];
    let last = 0;
    for (let at = 0; at < text.length;) {
      const [content, token] =
        this.#tokens.get(text.charAt(at))?.find(([content]) => text.startsWith(content, at)) ?? [];
      if (content === undefined || token === undefined) {
        at++;
        continue;
      }
      let [from, to] = [at, at + content.length];
      at = to;
      if (token.single_word && (WORD_END.test(text.slice(0, from)) || WORD_START.test(text.slice(to)))) continue;
      if (token.lstrip) while (from > last && isWhiteSpace(text.charAt(from - 1))) from--;
      if (token.rstrip) while (to < text.length && isWhiteSpace(text.charAt(to))) to++;
      if (last < from) sections.push({ text: aligned.slice(last, from) });
      sections.push({ text: aligned.slice(from, to), id: token.id });
      last = to;
      at = Math.max(at, to);
    }
    if (last < text.length) sections.push({ text: aligned.slice(last, text.length) });
    return sections;
  }
}
