/** A regular expression's syntax tree: what `parsePattern` gives and `compilePattern` takes. */
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
 * Parses the part of regular expressions that Python and JavaScript share and that can be matched in linear time:
 * characters, `.`, classes, groups, `|`, `* + ? {m,n}` (greedy or lazy), `^`, `$`. Throws SyntaxError for the rest.
 */
export function parsePattern(source: string): PatternNode {
  const parser = new Parser(Array.from(source));
  const node = parser.choice();
  if (!parser.done) throw new SyntaxError("a ) without its (");
  return node;
}

class Parser {
  #at = 0;

  constructor(readonly characters: readonly string[]) {}

  get done(): boolean {
    return this.#at >= this.characters.length;
  }

  choice(): PatternNode {
    const parts = [this.#sequence()];
    while (this.#take("|")) parts.push(this.#sequence());
    return parts.length === 1 ? parts[0]! : { kind: "choice", parts };
  }

  #sequence(): PatternNode {
    const parts: PatternNode[] = [];
    while (!this.done && this.#peek() !== "|" && this.#peek() !== ")") parts.push(this.#repeated());
    return { kind: "sequence", parts };
  }

  #repeated(): PatternNode {
    const part = this.#atom();
    const range = this.#quantifier();
    if (range === undefined) return part;
    this.#take("?");
    if (this.#quantifier() !== undefined) throw new SyntaxError("a repeat of a repeat");
    return { kind: "repeat", part, least: range[0], most: range[1] };
  }

  #quantifier(): readonly [number, number] | undefined {
    if (this.#take("*")) return [0, Infinity];
    if (this.#take("+")) return [1, Infinity];
    if (this.#take("?")) return [0, 1];
    const [whole, least, comma, most] = /^\{(\d*)(,?)(\d*)\}/.exec(this.#rest(24)) ?? [];
    if (whole === undefined || whole === "{}" || whole === "{,}") return undefined;
    this.#at += whole.length;
    const from = Number(least);
    return [from, comma === "" ? from : most === "" ? Infinity : Number(most)];
  }

  #atom(): PatternNode {
    const character = this.#next();
    if (character === "(") return this.#group();
    if (character === "[") return { kind: "character", test: this.#set() };
    if (character === ".") return { kind: "character", test: (c) => c !== "\n" };
    if (character === "^") return { kind: "begin" };
    if (character === "$") return { kind: "end" };
    if (character === "\\") return { kind: "character", test: this.#escape() };
    if ("*+?".includes(character)) throw new SyntaxError(`nothing before ${character} to repeat`);
    return { kind: "character", test: (c) => c === character };
  }

  #group(): PatternNode {
    if (this.#take("?") && !this.#take(":")) throw new SyntaxError("(? groups other than (?: are not supported");
    const node = this.choice();
    if (!this.#take(")")) throw new SyntaxError("a ( without its )");
    return node;
  }

  #escape(): Test {
    const character = this.#next();
    if (Object.hasOwn(CLASSES, character)) return CLASSES[character]!;
    if (/^[0-9A-Za-z]$/.test(character)) throw new SyntaxError(`\\${character} is not supported`);
    return (c) => c === character;
  }

  #set(): Test {
    const negated = this.#take("^");
    const tests: Test[] = [];
    do {
      const character = this.#next();
      if (character === "\\") tests.push(this.#escape());
      else if (this.#peek() === "-" && this.characters[this.#at + 1] !== "]") {
        this.#at++;
        const last = this.#next();
        tests.push((c) => c >= character && c <= last);
      } else tests.push((c) => c === character);
    } while (!this.#take("]"));
    return (c) => tests.some((test) => test(c)) !== negated;
  }

  #peek(): string | undefined {
    return this.characters[this.#at];
  }

  #next(): string {
    const character = this.characters[this.#at++];
    if (character === undefined) throw new SyntaxError("it ends too early");
    return character;
  }

  #take(character: string): boolean {
    if (this.#peek() !== character) return false;
    this.#at++;
    return true;
  }

  #rest(length: number): string {
    return this.characters.slice(this.#at, this.#at + length).join("");
  }
}
