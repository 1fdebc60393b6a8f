import { random } from "./random.mjs";
import { ASIDES, DEGREES, DISLIKE, GENERAL, LIKE, TIMES, TOPICS } from "./words.mjs";

/**
 * The small language of the demo: sentences about films, food, hotels and gadgets. The sentiment of a sentence follows from
 * rules, not just from its words.
 *
 * A phrase is `{ text, value }`. A positive value is praise, a negative one is blame, and its magnitude is the strength.
 *
 *   an adjective             good +1, superb +2, dull -1, awful -2
 *   a degree multiplies      slightly x 1/2, rather x 1, very x 2, extremely x 3
 *   a negation inverts       "not very good" = -1, "nobody called it dull" = +1      (the magnitude becomes 1)
 *   "and" adds               "good and awful" = 1 - 2 < 0, "extremely good and awful" = 3 - 2 > 0
 *   expectation is ignored   "i expected an awful film and got a good one" = +1
 *
 * The SOURCE domain has these rules, with films and food. The TARGET domain has hotels and gadgets, and these additional
 * constructions:
 *
 *   contrast and concession  "X but Y", "X , yet Y", "although X , Y", "Y even though X", "despite X , Y": Y alone counts
 *   double negation          "nobody said the room was not clean" = +1
 *   comparison               "more / less X than Z", "better / worse than Z": X counts, Z does not
 *
 * All random choices come from one seeded generator, so a seed gives the same sentences on every machine.
 */

const article = (phrase) => (/^[aeiou]/.test(phrase) ? "an" : "a");
const nounPhrase = (adjective, noun) => ({
  text: `${article(adjective.text)} ${adjective.text} ${noun}`,
  value: adjective.value,
});

/** The sum of two values, or 0 if it is too small to decide; sentences with the value 0 are not used. */
const total = (a, b) => (Math.abs(a.value + b.value) < 1 ? 0 : a.value + b.value);

/** Generates the sentences of a domain. `topics` are its topics and `kinds` its constructions, both with weights. */
export class Grammar {
  constructor(rng, { topics, kinds, bystanders = [], negators = [] }) {
    Object.assign(this, { rng, topics, kinds, bystanders, negators });
  }

  // ---- words -------------------------------------------------------------------------------------------------------

  topic() {
    return TOPICS[this.rng.weighted(this.topics)];
  }

  /** An adjective for the topic, by default with a random sign and strength. */
  adjective(topic, sign = this.sign(), size = this.rng.chance(0.65) ? 1 : 2) {
    const value = sign * size;
    const list = this.rng.chance(0.5) ? GENERAL[value] : topic.adjectives[value];
    return { text: this.rng.pick(list), value };
  }

  /** An adjective, in about half of the cases preceded by a degree. */
  graded(topic, sign = this.sign()) {
    const plain = this.adjective(topic, sign);
    if (this.rng.chance(0.45)) return plain;
    const degree = this.rng.pick(Object.keys(DEGREES));
    return { text: `${degree} ${plain.text}`, value: DEGREES[degree] * plain.value };
  }

  sign() {
    return this.rng.chance(0.5) ? 1 : -1;
  }

  // ---- clauses -----------------------------------------------------------------------------------------------------

  /** A clause about one thing with the sentiment `sign`, expressed by a negation if `negated`. */
  clause(
    sign = this.sign(),
    { negated = this.rng.chance(0.4), topic = this.topic(), noun = this.rng.pick(topic.nouns) } = {},
  ) {
    const { rng } = this;
    const verb = rng.pick(["is", "was"]);
    if (!negated) {
      if (rng.chance(0.15))
        return { text: `${rng.pick(["i", "we"])} ${rng.pick(sign > 0 ? LIKE : DISLIKE)} the ${noun}`, value: sign };
      const a = this.graded(topic, sign);
      return { text: `the ${noun} ${verb} ${a.text}`, value: a.value };
    }
    const a = this.adjective(topic, -sign);
    const text = rng.pick([
      () => `the ${noun} ${verb} not ${rng.pick(["", "very ", "really "])}${a.text}`,
      () => `the ${noun} ${verb} never ${a.text}`,
      () => `the ${noun} ${verb} hardly ${a.text}`,
      () => `the ${noun} ${verb} far from ${a.text}`,
      () => `nobody called the ${noun} ${a.text}`,
      () => `${rng.pick(["i", "we"])} did not find the ${noun} ${rng.pick(["", "very "])}${a.text}`,
      () => `nobody ${rng.pick(sign > 0 ? DISLIKE : LIKE)} the ${noun}`,
      ...(this.negators.length ? Array(7).fill(() => `the ${noun} ${verb} ${rng.pick(this.negators)} ${a.text}`) : []),
    ])();
    return { text, value: sign };
  }

  /** Two clauses of opposite sentiments, of which at most one is negated. */
  opposed(sign) {
    const which = this.rng.below(4);
    return [this.clause(sign, { negated: which === 0 }), this.clause(-sign, { negated: which === 1 })];
  }

  /** A statement without sentiment, which may mention things of the other domain. */
  neutral() {
    const { rng } = this;
    const noun = rng.pick(this.bystanders);
    return rng.pick([
      () => `it was ${rng.pick(["monday", "friday", "sunday"])}`,
      () => `we talked about ${rng.pick(["a", "the"])} ${noun}`,
      () => `the ${noun} was ${rng.pick(["red", "blue", "new", "old"])}`,
      () => `there was ${article(noun)} ${noun}`,
      () => `i saw the ${noun} ${rng.pick(TIMES)}`,
    ])();
  }

  /** A noun with an adjective: "the awful soup". */
  thing(sign) {
    const topic = this.topic();
    return `the ${this.adjective(topic, sign).text} ${this.rng.pick(topic.nouns)}`;
  }

  // ---- constructions -----------------------------------------------------------------------------------------------

  simple() {
    return this.clause(undefined, { negated: false });
  }

  negation() {
    return this.clause(undefined, { negated: true });
  }

  /** "the soup was rather good and awful": the sum of the graded adjectives decides. */
  sum() {
    const { rng } = this;
    const topic = this.topic();
    const [a, b] = [this.graded(topic), this.graded(topic)];
    const noun = rng.pick(topic.nouns);
    return { text: `the ${noun} ${rng.pick(["is", "was"])} ${a.text} and ${b.text}`, value: total(a, b) };
  }

  /** Two clauses joined by "and". */
  both() {
    const [a, b] = [this.clause(), this.clause()];
    return { text: `${a.text} and ${b.text}`, value: total(a, b) };
  }

  /** A clause and a neutral one with any conjunction. This introduces the words of contrast to the source domain. */
  aside() {
    const { rng } = this;
    const [c, n] = [this.clause(), this.neutral()];
    const text = rng.pick([
      () => `${n} and ${c.text}`,
      () => `${c.text} and ${n}`,
      () => `${n} but ${c.text}`,
      () => `although ${n} , ${c.text}`,
      () => `${n} , yet ${c.text}`,
      () => `despite the ${rng.pick(this.bystanders)} , ${c.text}`,
      () => `more than a ${rng.pick(this.bystanders)} , ${c.text}`,
      () => `less than an hour later , ${c.text}`,
    ])();
    return { text, value: c.value };
  }

  /** "i expected an awful film and got a good one": only the second part counts. */
  expectation() {
    const { rng } = this;
    const topic = this.topic();
    const noun = rng.pick(topic.nouns);
    const sign = this.sign();
    const expected = nounPhrase(this.graded(topic, -sign), noun);
    const got = nounPhrase(this.graded(topic, sign), "one");
    const text = rng.pick([
      () => `i expected ${expected.text} and got ${got.text}`,
      () => `we got ${got.text} and expected ${expected.text}`,
      () => `they promised ${expected.text} and we got ${got.text}`,
    ])();
    return { text, value: got.value };
  }

  /** A clause with one about the past, hearsay or another thing, which does not count, whatever the order. */
  change() {
    const { rng } = this;
    const sign = this.sign();
    const [main, side] = this.opposed(sign);
    const other = this.thing(-sign);
    const text = rng.pick([
      () => `${side.text} and later ${main.text}`,
      () => `earlier ${side.text} , ${main.text}`,
      () => `${main.text} , earlier ${side.text}`,
      () => `i heard that ${side.text} , ${main.text}`,
      () => `unlike ${other} , ${main.text}`,
    ])();
    return { text, value: main.value };
  }

  /** "nobody said the soup was not good": a negation of a statement that may itself be negated. */
  denial() {
    const { rng } = this;
    const topic = this.topic();
    const noun = rng.pick(topic.nouns);
    const a = this.adjective(topic);
    const inner = rng.chance(0.5);
    const said = `${inner ? rng.pick(["not ", "never ", "hardly "]) : ""}${a.text}`;
    const text = rng.pick([
      () => `nobody said the ${noun} was ${said}`,
      () => `i would not say the ${noun} is ${said}`,
      () => `it is not true that the ${noun} is ${said}`,
    ])();
    return { text, value: Math.sign(inner ? a.value : -a.value) };
  }

  /** "the soup is less salty than before". */
  before() {
    const { rng } = this;
    const topic = this.topic();
    const a = this.adjective(topic, undefined, 1);
    const less = rng.chance(0.5);
    return {
      text: `the ${rng.pick(topic.nouns)} is ${less ? "less" : "more"} ${a.text} than ${rng.pick(["before", "usual"])}`,
      value: less ? -a.value : a.value,
    };
  }

  /** Contrast and concession: the side clause has the opposite sentiment and does not count. */
  contrast() {
    const { rng } = this;
    const sign = this.sign();
    const [main, side] = this.opposed(sign);
    const other = this.thing(-sign);
    const text = rng.weighted({
      [`${side.text} but ${main.text}`]: 4,
      [`${side.text} , yet ${main.text}`]: 1,
      [`although ${side.text} , ${main.text}`]: 3,
      [`despite ${other} , ${main.text}`]: 1,
    });
    return { text, value: main.value };
  }

  /** "the screen is less faulty than the superb camera": the first thing counts. */
  comparison() {
    const { rng } = this;
    const topic = this.topic();
    const [noun, other] = rng.shuffle([...topic.nouns]);
    const sign = this.sign();
    const rival = `the ${rng.chance(0.6) ? this.adjective(topic, -sign).text : rng.pick(["old", "new"])} ${other}`;
    const verb = rng.pick(["is", "was"]);
    const text = rng.pick([
      () => `the ${noun} ${verb} more ${this.adjective(topic, sign, 1).text} than ${rival}`,
      () => `the ${noun} ${verb} less ${this.adjective(topic, -sign, 1).text} than ${rival}`,
      () => `the ${noun} ${verb} less ${this.adjective(topic, -sign, 1).text} than ${rival}`,
      () => `the ${noun} ${verb} ${sign > 0 ? "better" : "worse"} than ${rival}`,
      () => `the ${noun} ${verb} not ${sign > 0 ? "worse" : "better"} than ${rival}`,
    ])();
    return { text, value: sign };
  }

  /** A sentence of the domain: `{ kind, text, value }`. */
  sentence(kind = this.rng.weighted(this.kinds)) {
    const { rng } = this;
    const { text, value } = this[kind]();
    const opened = rng.chance(0.15) ? `${rng.pick(ASIDES)} ${text}` : text;
    return { kind, text: `${opened} ${rng.chance(0.8) ? "." : "!"}`, value };
  }
}

/** The options of the two domains' grammars. */
export const DOMAINS = {
  source: {
    topics: { film: 4, food: 4, venue: 3 },
    kinds: { simple: 8, negation: 3, sum: 3, both: 1, aside: 4, expectation: 1.5, change: 5, denial: 2, before: 0.5 },
    bystanders: [...TOPICS.hotel.nouns, ...TOPICS.gadget.nouns],
  },
  target: {
    topics: { hotel: 1, gadget: 1 },
    kinds: { simple: 1, negation: 3, sum: 1, contrast: 7, denial: 1, comparison: 2 },
    negators: ["barely", "scarcely", "by no means", "nowhere near"],
  },
};

/**
 * Generates lists of labelled sentences of a domain, one for each of `counts`. No sentence occurs twice, and the numbers of
 * the two labels in a list differ by at most one.
 */
export function generate(domain, seed, counts) {
  const grammar = new Grammar(random(seed), DOMAINS[domain]);
  const seen = new Set();
  return counts.map((count) => {
    const rows = [];
    const remaining = [count >> 1, count - (count >> 1)];
    while (rows.length < count) {
      const { kind, text, value } = grammar.sentence();
      const label = value > 0 ? 1 : 0;
      if (value === 0 || seen.has(text) || remaining[label] === 0) continue;
      seen.add(text);
      remaining[label]--;
      rows.push({ text, label, kind });
    }
    return rows;
  });
}
