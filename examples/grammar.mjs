import { random } from "./random.mjs";
import { ASIDES, DEGREES, DISLIKE, GENERAL, LIKE, TIMES, TOPICS } from "./words.mjs";

/**
 * The little language of the demo: sentences about films, food, hotels and gadgets, each with a sentiment that follows
 * from a rule and not from the words alone.
 *
 * Every phrase is `{ text, value }`: value > 0 is praise, value < 0 is blame, and its size is the strength.
 *
 *   an adjective             good +1, superb +2, dull -1, awful -2
 *   a degree multiplies      slightly x 1/2, rather x 1, very x 2, extremely x 3
 *   a negation turns over    "not very good" = -1, "nobody called it dull" = +1      (whatever the strength, 1 is left)
 *   "and" adds               "good and awful" = 1 - 2 < 0, "extremely good and awful" = 3 - 2 > 0
 *   expectation is dropped   "i expected an awful film and got a good one" = +1
 *
 * The SOURCE domain has these, on films and food. The TARGET domain is hotels and gadgets, and adds constructions that
 * the source never shows:
 *
 *   contrast and concession  "X but Y", "X , yet Y", "although X , Y", "Y even though X", "despite X , Y": Y alone counts
 *   double negation          "nobody said the room was not clean" = +1
 *   comparison               "more / less X than Z", "better / worse than Z": the thing compared counts, Z does not
 *
 * Everything random is drawn from one seeded generator, so the same seed gives the same sentences everywhere.
 */

const article = (phrase) => (/^[aeiou]/.test(phrase) ? "an" : "a");
const nounPhrase = (adjective, noun) => ({
  text: `${article(adjective.text)} ${adjective.text} ${noun}`,
  value: adjective.value,
});

/** The sum of two values, or 0 (no sentence) where it is too close to call. */
const total = (a, b) => (Math.abs(a.value + b.value) < 1 ? 0 : a.value + b.value);

/** The sentences of a domain: `topics` are what it praises and blames, `kinds` its constructions by weight. */
export class Grammar {
  constructor(rng, { topics, kinds, bystanders = [], negators = [] }) {
    Object.assign(this, { rng, topics, kinds, bystanders, negators });
  }

  // ---- words -------------------------------------------------------------------------------------------------------

  topic() {
    return TOPICS[this.rng.weighted(this.topics)];
  }

  /** A bare adjective for the topic; `sign` and `size` may be left to chance. */
  adjective(topic, sign = this.sign(), size = this.rng.chance(0.65) ? 1 : 2) {
    const value = sign * size;
    const list = this.rng.chance(0.5) ? GENERAL[value] : topic.adjectives[value];
    return { text: this.rng.pick(list), value };
  }

  /** An adjective, in about half the cases with a degree before it. */
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

  /** A clause about one thing. `sign` fixes its sentiment, `negated` how it is put. */
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

  /** Two clauses of opposite sentiment, at most one of them negated. */
  opposed(sign) {
    const which = this.rng.below(4);
    return [this.clause(sign, { negated: which === 0 }), this.clause(-sign, { negated: which === 1 })];
  }

  /** A statement without sentiment, in which things of the other domain turn up too. */
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

  /** "the awful soup" */
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

  /** "the soup was rather good and awful": degrees have strengths, the sum decides. */
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

  /** A clause beside a neutral one, joined by any conjunction: here the source domain learns the words of contrast. */
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

  /** "i expected an awful film and got a good one": what was got counts. */
  expectation() {
    const { rng } = this;
    const topic = this.topic();
    const noun = rng.pick(topic.nouns);
    const sign = this.sign();
    const hoped = nounPhrase(this.graded(topic, -sign), noun);
    const got = nounPhrase(this.graded(topic, sign), "one");
    const text = rng.pick([
      () => `i expected ${hoped.text} and got ${got.text}`,
      () => `we got ${got.text} and expected ${hoped.text}`,
      () => `they promised ${hoped.text} and we got ${got.text}`,
    ])();
    return { text, value: got.value };
  }

  /** What was earlier, hearsay or elsewhere does not count, wherever it stands. */
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

  /** "nobody said the soup was good": a negation from outside, of a statement that may have one of its own. */
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

  /** Contrast and concession: the side clause is of the other sentiment, and does not count. */
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

/** The two domains. */
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
 * `counts` labelled sentences of a domain in lists without a sentence in common or twice; each list has as many of
 * either label, give or take one.
 */
export function generate(domain, seed, counts) {
  const grammar = new Grammar(random(seed), DOMAINS[domain]);
  const seen = new Set();
  return counts.map((count) => {
    const rows = [];
    const wanted = [count >> 1, count - (count >> 1)];
    while (rows.length < count) {
      const { kind, text, value } = grammar.sentence();
      const label = value > 0 ? 1 : 0;
      if (value === 0 || seen.has(text) || wanted[label] === 0) continue;
      seen.add(text);
      wanted[label]--;
      rows.push({ text, label, kind });
    }
    return rows;
  });
}
