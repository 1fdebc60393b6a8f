/** Syntax tree of a regular expression. */
export type PatternNode =
  | { readonly kind: "character"; readonly test: (character: string) => boolean }
  | { readonly kind: "sequence"; readonly parts: readonly PatternNode[] }
  | { readonly kind: "choice"; readonly parts: readonly PatternNode[] }
  | { readonly kind: "repeat"; readonly part: PatternNode; readonly least: number; readonly most: number }
  | { readonly kind: "begin" | "end" };

type Test = (character: string) => boolean;

const CLASSES: Readonly<Record<string, Test>> = {
  d: (c) => /^\d$/.test(c),
  D: (c) => !/^\d$/.test(c),
  w: (c) => /^[\p{L}\p{N}_]$/u.test(c),
  W: (c) => !/^[\p{L}\p{N}_]$/u.test(c),
  s: (c) => /^\s$/.test(c),
  S: (c) => !/^\s$/.test(c),
};

/**
 * Parses the regular expressions that mean the same in Python and JavaScript and can be matched in linear time: characters,
 * `.`, classes, groups, `|`, `* + ? {m,n}` (greedy or lazy), `^`, `$`.
 * @throws SyntaxError for anything else.
 */
export function parsePattern(source: string): PatternNode {
  const parser = new Parser(Array.from(source));
  const node = parser.choice();
  if (!parser.isDone) throw new SyntaxError("a ) has no (");
  return node;
}

class Parser {
  #position = 0;

  constructor(readonly characters: readonly string[]) {}

  get isDone(): boolean {
    return this.#position >= this.characters.length;
  }

  choice(): PatternNode {
    const parts = [this.#sequence()];
    while (this.#take("|")) parts.push(this.#sequence());
    return parts.length === 1 ? parts[0]! : { kind: "choice", parts };
  }

  #sequence(): PatternNode {
    const parts: PatternNode[] = [];
    while (!this.isDone && this.#peek() !== "|" && this.#peek() !== ")") parts.push(this.#repeated());
    return { kind: "sequence", parts };
  }

  #repeated(): PatternNode {
    const part = this.#atom();
    const range = this.#quantifier();
    if (range === undefined) return part;
    this.#take("?");
    if (this.#quantifier() !== undefined) throw new SyntaxError("a repetition is repeated");
    return { kind: "repeat", part, least: range[0], most: range[1] };
  }

  #quantifier(): readonly [number, number] | undefined {
    if (this.#take("*")) return [0, Infinity];
    if (this.#take("+")) return [1, Infinity];
    if (this.#take("?")) return [0, 1];
    const [match, least, comma, most] = /^\{(\d*)(,?)(\d*)\}/.exec(this.#rest(24)) ?? [];
    if (match === undefined || match === "{}" || match === "{,}") return undefined;
    this.#position += match.length;
    const minimum = Number(least);
    return [minimum, comma === "" ? minimum : most === "" ? Infinity : Number(most)];
  }

  #atom(): PatternNode {
    const character = this.#next();
    if (character === "(") return this.#group();
    if (character === "[") return { kind: "character", test: this.#set() };
    if (character === ".") return { kind: "character", test: (c) => c !== "\n" };
    if (character === "^") return { kind: "begin" };
    if (character === "$") return { kind: "end" };
    if (character === "\\") return { kind: "character", test: this.#escape() };
    if ("*+?".includes(character)) throw new SyntaxError(`there is nothing to repeat before ${character}`);
    return { kind: "character", test: (c) => c === character };
  }

  #group(): PatternNode {
    if (this.#take("?") && !this.#take(":")) throw new SyntaxError("(? groups other than (?: are not supported");
    const node = this.choice();
    if (!this.#take(")")) throw new SyntaxError("a ( has no )");
    return node;
  }

  #escape(): Test {
    const character = this.#next();
    if (Object.hasOwn(CLASSES, character)) return CLASSES[character]!;
    if (/^[0-9A-Za-z]$/.test(character)) throw new SyntaxError(`\\${character} is not supported`);
    return (c) => c === character;
  }

  #set(): Test {
    const isNegated = this.#take("^");
    const tests: Test[] = [];
    do {
      const character = this.#next();
      if (character === "\\") tests.push(this.#escape());
      else if (this.#peek() === "-" && this.characters[this.#position + 1] !== "]") {
        this.#position++;
        const last = this.#next();
        tests.push((c) => c >= character && c <= last);
      } else tests.push((c) => c === character);
    } while (!this.#take("]"));
    return (c) => tests.some((test) => test(c)) !== isNegated;
  }

  #peek(): string | undefined {
    return this.characters[this.#position];
  }

  #next(): string {
    const character = this.characters[this.#position++];
    if (character === undefined) throw new SyntaxError("it ends too early");
    return character;
  }

  #take(character: string): boolean {
    if (this.#peek() !== character) return false;
    this.#position++;
    return true;
  }

  #rest(length: number): string {
    return this.characters.slice(this.#position, this.#position + length).join("");
  }
}
