/** Ways to match that a backtracking engine may have to try one after the other. */
interface Cost {
  /** Logarithm to base 2 of the choices that the text does not decide at once: options, alternatives, short repeats. */
  readonly bits: number;
  /** Repeats without an end: the time is the text's length to this power. */
  readonly loops: number;
}

const MOST_BITS = 12;
const MOST_LOOPS = 3;
const MOST_DEPTH = 50;
/** A repeat with a wider range is one without an end. */
const SHORT = 64;

/**
 * What makes a regular expression from a file unusable, if anything does: JavaScript's engine tries every way to match, and
 * an expression as `(a+)+b` has exponentially many. Errs on the safe side. `source` is of a RegExp with the flag u.
 */
export function patternFault(source: string): string | undefined {
  try {
    const scanner = new Scanner(source);
    for (const { bits, loops } of scanner.alternatives(0)) {
      if (bits > MOST_BITS) return "it has too many ways to match";
      if (loops > MOST_LOOPS) return `more than ${MOST_LOOPS} of its repeats follow one another`;
    }
    return undefined;
  } catch (error) {
    if (error instanceof Fault) return error.message;
    throw error;
  }
}

class Fault extends Error {}

class Scanner {
  #at = 0;

  constructor(readonly source: string) {}

  alternatives(depth: number): Cost[] {
    if (depth > MOST_DEPTH) throw new Fault("its groups lie too deep in one another");
    const costs = [this.#sequence(depth)];
    while (this.#take("|")) costs.push(this.#sequence(depth));
    return costs;
  }

  #sequence(depth: number): Cost {
    let [bits, loops] = [0, 0];
    while (this.#at < this.source.length && !this.#sees("|") && !this.#sees(")")) {
      const cost = repeated(this.#atom(depth), this.#quantifier());
      bits += cost.bits;
      loops += cost.loops;
    }
    return { bits, loops };
  }

  #atom(depth: number): Cost {
    if (this.#take("(")) return this.#group(depth);
    if (this.#take("[")) this.#class();
    else if (this.#take("\\")) this.#escape();
    else this.#at++;
    return { bits: 0, loops: 0 };
  }

  #group(depth: number): Cost {
    // What kind of group it is does not matter; a name's characters would count as atoms, which is no harm.
    const kind = /^\?(?:<?[=!]|:|<[^>]*>|[a-z-]*:)/.exec(this.source.slice(this.#at, this.#at + 200))?.[0] ?? "";
    this.#at += kind.length;
    const costs = this.alternatives(depth + 1);
    this.#take(")");
    const choices = costs.reduce((sum, { bits }) => sum + 2 ** bits, 0);
    return { bits: Math.log2(choices), loops: Math.max(...costs.map(({ loops }) => loops)) };
  }

  #class(): void {
    for (; this.#at < this.source.length && !this.#take("]"); this.#at++) if (this.#sees("\\")) this.#at++;
  }

  #escape(): void {
    const letter = this.source[this.#at++] ?? "";
    if (!"pPu".includes(letter) || !this.#sees("{")) return;
    const end = this.source.indexOf("}", this.#at);
    this.#at = end < 0 ? this.source.length : end + 1;
  }

  /** Least and most repeats; undefined where there is no quantifier. */
  #quantifier(): readonly [number, number] | undefined {
    const [whole, least, comma, most] =
      /^(?:[*+?]|\{(\d+)(,?)(\d*)\})/.exec(this.source.slice(this.#at, this.#at + 40)) ?? [];
    if (whole === undefined) return undefined;
    this.#at += whole.length;
    this.#take("?");
    if (whole === "?") return [0, 1];
    if (least === undefined) return [0, Infinity];
    return [Number(least), comma === "" ? Number(least) : most === "" ? Infinity : Number(most)];
  }

  #sees(character: string): boolean {
    return this.source[this.#at] === character;
  }

  #take(character: string): boolean {
    if (!this.#sees(character)) return false;
    this.#at++;
    return true;
  }
}

function repeated({ bits, loops }: Cost, range: readonly [number, number] | undefined): Cost {
  if (range === undefined) return { bits, loops };
  const [least, most] = range;
  if (most - least <= SHORT) return { bits: bits * most + Math.log2(most - least + 1), loops: loops * most };
  if (bits > 0 || loops > 0) throw new Fault("it repeats, without an end, what can match in several ways");
  return { bits, loops: loops + 1 };
}
