/** Upper bound for the number of ways to match that a backtracking engine may have to try. */
interface Cost {
  /** Base-2 logarithm of the number of choices: optional parts, alternatives, short repeats. */
  readonly bits: number;
  /** Number of unlimited repeats. The time is proportional to the text's length to this power. */
  readonly loops: number;
}

const MAX_BITS = 12;
const MAX_LOOPS = 3;
const MAX_DEPTH = 50;
/** A repeat whose range is wider than this counts as unlimited. */
const SHORT = 64;

/**
 * The reason not to run a regular expression from a file, or undefined. JavaScript's engines try every way to match, of which
 * an expression such as `(a+)+b` has exponentially many. This may reject harmless expressions, but accepts no harmful ones.
 * @param source of a RegExp with the flag u.
 */
export function patternFault(source: string): string | undefined {
  try {
    const scanner = new Scanner(source);
    for (const { bits, loops } of scanner.alternatives(0)) {
      if (bits > MAX_BITS) return "it has too many ways to match";
      if (loops > MAX_LOOPS) return `it has more than ${MAX_LOOPS} unlimited repeats in a row`;
    }
    return undefined;
  } catch (error) {
    if (error instanceof Fault) return error.message;
    throw error;
  }
}

class Fault extends Error {}

/** Computes the costs of a regular expression, character by character. */
class Scanner {
  #position = 0;

  constructor(readonly source: string) {}

  /** Costs of the alternatives up to the end of the group, or of the expression. */
  alternatives(depth: number): Cost[] {
    if (depth > MAX_DEPTH) throw new Fault("its groups are nested too deeply");
    const costs = [this.#sequence(depth)];
    while (this.#take("|")) costs.push(this.#sequence(depth));
    return costs;
  }

  #sequence(depth: number): Cost {
    let [bits, loops] = [0, 0];
    while (this.#position < this.source.length && !this.#isAt("|") && !this.#isAt(")")) {
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
    else this.#position++;
    return { bits: 0, loops: 0 };
  }

  #group(depth: number): Cost {
    // Skips the prefix of groups that are not plain ones. A prefix that is missed counts as atoms, which cost nothing.
    const kind =
      /^\?(?:<?[=!]|:|<[^>]*>|[a-z-]*:)/.exec(this.source.slice(this.#position, this.#position + 200))?.[0] ?? "";
    this.#position += kind.length;
    const costs = this.alternatives(depth + 1);
    this.#take(")");
    const choices = costs.reduce((sum, { bits }) => sum + 2 ** bits, 0);
    return { bits: Math.log2(choices), loops: Math.max(...costs.map(({ loops }) => loops)) };
  }

  #class(): void {
    for (; this.#position < this.source.length && !this.#take("]"); this.#position++)
      if (this.#isAt("\\")) this.#position++;
  }

  #escape(): void {
    const letter = this.source[this.#position++] ?? "";
    if (!"pPu".includes(letter) || !this.#isAt("{")) return;
    const end = this.source.indexOf("}", this.#position);
    this.#position = end < 0 ? this.source.length : end + 1;
  }

  /** Minimum and maximum of repeats; undefined if there is no quantifier. */
  #quantifier(): readonly [number, number] | undefined {
    const [quantifier, minimum, comma, maximum] =
      /^(?:[*+?]|\{(\d+)(,?)(\d*)\})/.exec(this.source.slice(this.#position, this.#position + 40)) ?? [];
    if (quantifier === undefined) return undefined;
    this.#position += quantifier.length;
    this.#take("?");
    if (quantifier === "?") return [0, 1];
    if (minimum === undefined) return [0, Infinity];
    return [Number(minimum), comma === "" ? Number(minimum) : maximum === "" ? Infinity : Number(maximum)];
  }

  #isAt(character: string): boolean {
    return this.source[this.#position] === character;
  }

  #take(character: string): boolean {
    if (!this.#isAt(character)) return false;
    this.#position++;
    return true;
  }
}

/** Cost of a repeated part. @throws Fault for an unlimited repeat of a part that can match in several ways. */
function repeated({ bits, loops }: Cost, range: readonly [number, number] | undefined): Cost {
  if (range === undefined) return { bits, loops };
  const [minimum, maximum] = range;
  const width = maximum - minimum;
  if (width <= SHORT) return { bits: bits * maximum + Math.log2(width + 1), loops: loops * maximum };
  if (bits > 0 || loops > 0) throw new Fault("it has an unlimited repeat of a part that can match in several ways");
  return { bits, loops: loops + 1 };
}
