import type { Span } from "../offsets";

/**
 * A character of a changed text, and how it comes from the text before: 0 takes the place of the next character, 1 is inserted
 * after the last one, and -n takes the place of the next character and removes n that follow it.
 */
export type Change = readonly [character: string, change: number];

/**
 * A text that was changed, with the span of the original text that each of its UTF-16 units comes from, as Hugging Face's
 * tokenizers keep it (`NormalizedString`).
 */
export class AlignedText {
  private constructor(
    readonly text: string,
    /** Start and end in the original of each unit. */
    private readonly starts: readonly number[],
    private readonly ends: readonly number[],
    /** Where the part of the original begins that this text was. */
    readonly origin: number,
  ) {}

  static of(text: string): AlignedText {
    const starts: number[] = [];
    const ends: number[] = [];
    let unit = 0;
    for (const character of text) {
      for (let i = 0; i < character.length; i++) {
        starts.push(unit);
        ends.push(unit + character.length);
      }
      unit += character.length;
    }
    return new AlignedText(text, starts, ends, 0);
  }

  get length(): number {
    return this.text.length;
  }

  /** The span of the original that units [from, to) come from. */
  spanOf(from: number, to: number): Span {
    if (from < to) return [this.starts[from]!, this.ends[to - 1]!];
    const at = from > 0 ? this.ends[from - 1]! : this.origin;
    return [at, at];
  }

  /** Units [from, to), at least in part. */
  slice(from: number, to: number): AlignedText {
    if (from === 0 && to === this.length) return this;
    const origin = from === 0 ? this.origin : (this.starts[from] ?? this.origin);
    return new AlignedText(this.text.slice(from, to), this.starts.slice(from, to), this.ends.slice(from, to), origin);
  }

  /** The text in which units [from, to) are replaced by what `changes` say, of which the first `removed` units have no successor. */
  change(changes: readonly Change[], from = 0, to = this.length, removed = 0): AlignedText {
    const starts = this.starts.slice(0, from);
    const ends = this.ends.slice(0, from);
    let text = this.text.slice(0, from);
    let unit = from + removed;
    const skip = (): void => {
      if (unit < to) unit += characterAt(this.text, unit).length;
    };
    for (const [character, change] of changes) {
      const [start, end] = change > 0 ? this.#alignment(unit - 1) : this.#alignment(unit);
      for (let i = 0; i < character.length; i++) {
        starts.push(start);
        ends.push(end);
      }
      text += character;
      for (let i = change; i <= 0; i++) skip();
    }
    const rest = <T>(list: readonly T[]): readonly T[] => list.slice(to);
    return new AlignedText(
      text + this.text.slice(to),
      to === this.length ? starts : [...starts, ...rest(this.starts)],
      to === this.length ? ends : [...ends, ...rest(this.ends)],
      this.origin,
    );
  }

  /** Every character as what `replacement` makes of it: several take its place, and none removes it. */
  map(replacement: (character: string) => string): AlignedText {
    const starts: number[] = [];
    const ends: number[] = [];
    let text = "";
    let unit = 0;
    for (const character of this.text) {
      const replaced = replacement(character);
      for (let i = 0; i < replaced.length; i++) {
        starts.push(this.starts[unit]!);
        ends.push(this.ends[unit]!);
      }
      text += replaced;
      unit += character.length;
    }
    return text === this.text ? this : new AlignedText(text, starts, ends, this.origin);
  }

  /** Every match replaced by a text, whose characters come from the last that was replaced. */
  replace(matches: Iterable<Span>, content: string): AlignedText {
    const starts: number[] = [];
    const ends: number[] = [];
    let text = "";
    let last = 0;
    const keep = (to: number): void => {
      for (let unit = last; unit < to; unit++) {
        starts.push(this.starts[unit]!);
        ends.push(this.ends[unit]!);
      }
      text += this.text.slice(last, to);
    };
    for (const [from, to] of matches) {
      keep(from);
      const [start, end] = this.#alignment(to - 1);
      for (let i = 0; i < content.length; i++) {
        starts.push(start);
        ends.push(end);
      }
      text += content;
      last = to;
    }
    if (last === 0 && text === "") return this;
    keep(this.length);
    return new AlignedText(text, starts, ends, this.origin);
  }

  /** The text after another one, which comes from its first character. Empty texts stay empty. */
  prepend(prefix: string): AlignedText {
    if (this.length === 0) return this;
    const [start, end] = this.#alignment(0);
    const count = prefix.length;
    const before = (value: number, own: readonly number[]): number[] => [
      ...Array.from({ length: count }, () => value),
      ...own,
    ];
    return new AlignedText(prefix + this.text, before(start, this.starts), before(end, this.ends), this.origin);
  }

  #alignment(unit: number): Span {
    return unit < 0 ? [0, 0] : [this.starts[unit] ?? this.origin, this.ends[unit] ?? this.origin];
  }
}

/** The code point that begins at a unit. */
export function characterAt(text: string, unit: number): string {
  return String.fromCodePoint(text.codePointAt(unit)!);
}
