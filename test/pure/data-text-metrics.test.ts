import { describe, expect, it } from "vitest";
import { answerF1, exactMatch, normaliseAnswer, squadScores } from "../../src/data/metrics-squad";
import { meteorVariant } from "../../src/data/meteor";
import { e2eMetricsFiles } from "../../src/data/metrics-e2e";
import { bleu, cider, mtevalTokens, nist, plainTokens, rouge, rougeL } from "../../src/data/metrics-text";

const RESTAURANTS = [
  {
    text: "The Vaults pub near Café Adriatic has a 5 star rating.",
    references: [
      "The Vaults pub near Café Adriatic has a 5 star rating. Prices start at £30.",
      "Close to Café Adriatic, The Vaults pub has a rating of 5 stars.",
    ],
  },
  {
    text: "Cocum is a cheap coffee shop in the city centre.",
    references: [
      "Cocum is a family-friendly coffee shop in the city centre, and it is cheap.",
      "There is a cheap coffee shop, Cocum, in the city centre.",
    ],
  },
  {
    text: "It is low-priced, at 3.5 out of 5.",
    references: ["It has a low price and 3.5 out of 5.", "A low-priced place, 3.5 out of 5."],
  },
];

describe("BLEU", () => {
  it("has the value of sacrebleu 2 (13a, lower case, no smoothing, two references)", () => {
    expect(100 * bleu(RESTAURANTS)).toBeCloseTo(70.45934179264117, 9);
  });

  it("tokenises as 13a of sacrebleu does", () => {
    expect(mtevalTokens("It is low-priced, at 3.5 out of 5.")).toEqual([
      "it",
      "is",
      "low-priced",
      ",",
      "at",
      "3.5",
      "out",
      "of",
      "5",
      ".",
    ]);
  });

  it("is 1 for its own reference and 0 for other words", () => {
    const text = "a b c d e";
    expect(bleu([{ text, references: [text] }])).toBeCloseTo(1, 12);
    expect(bleu([{ text: "v w x y z", references: [text] }])).toBeLessThan(1e-12);
  });
});

describe("NIST", () => {
  it("weighs n-grams by their information, as calculated by hand", () => {
    // One reference, "a b a c": 4 words, a twice. Information: a log2(4/2) = 1, b log2(4/1) = 2, "a b" log2(2/1) = 1.
    // "a b" has (1 + 2) / 2 for words and 1 / 1 for pairs; its length is half the reference's.
    const beta = Math.LN2 / Math.log(1.5) ** 2;
    const expected = (1.5 + 1) * Math.exp(-beta * Math.log(0.5) ** 2);
    expect(nist([{ text: "a b", references: ["a b a c"] }])).toBeCloseTo(expected, 12);
  });

  it("is half as large at two thirds of the length, which determines its constant", () => {
    const complete = nist([{ text: "a b c", references: ["a b c"] }]);
    // Each word has log2(3) of information, and a pair has none, since its prefix occurs as often as the pair.
    expect(complete).toBeCloseTo(Math.log2(3), 12);
    expect(nist([{ text: "a b", references: ["a b c"] }])).toBeCloseTo(Math.log2(3) / 2, 12);
  });
});

describe("ROUGE-L", () => {
  it("has the values of Lin's example, police killed the gunman", () => {
    // Lin (2004), section 3.1: LCS 3 of 4 words, and 2 of 4.
    const references = ["police killed the gunman"];
    expect(rougeL([{ text: "police kill the gunman", references }])).toBeCloseTo(0.75, 12);
    expect(rougeL([{ text: "the gunman kill police", references }])).toBeCloseTo(0.5, 12);
  });

  it("takes recall and precision from the best reference of each, with beta 1.2", () => {
    // LCS with "a b c d": 2, precision 2/2, recall 2/4; with "a": 1, precision 1/2, recall 1.
    const expected = ((1 + 1.44) * 1 * 1) / (1 + 1.44 * 1);
    expect(rougeL([{ text: "a b", references: ["a b c d", "a"] }])).toBeCloseTo(expected, 12);
  });
});

describe("ROUGE-1, -2 and -L as F1", () => {
  it("have the values of Lin's example, calculated by hand", () => {
    // 3 of 4 words; of the pairs, "the gunman" alone: 1 of 3; LCS 3.
    const references = ["police killed the gunman"];
    const scores = rouge([{ text: "police kill the gunman", references }]);
    expect(scores).toEqual({ rouge1: 0.75, rouge2: 1 / 3, rougeL: 0.75 });
    // "gunman the killed police" has all words and no pair; its longest common subsequence has one word.
    expect(rouge([{ text: "gunman the killed police", references }])).toEqual({ rouge1: 1, rouge2: 0, rougeL: 0.25 });
  });

  it("count an n-gram as often as both texts have it, and weigh precision and recall alike", () => {
    // "the" twice of three times against twice: 2 common of 3 and 4 words; "the the" once of 2 and 3 pairs.
    const { rouge1, rouge2 } = rouge([{ text: "the the the", references: ["the the cat sat"] }]);
    expect(rouge1).toBeCloseTo(4 / 7, 12);
    expect(rouge2).toBeCloseTo(2 / 5, 12);
  });

  it("stem words of more than three letters if asked to", () => {
    const items = [{ text: "Dogs running, was", references: ["dog runs is"] }];
    expect(rouge(items).rouge1).toBe(0);
    // "was" has three letters and keeps them; Porter would shorten it to "wa".
    expect(rouge(items, { stem: true }).rouge1).toBeCloseTo(2 / 3, 12);
  });

  it("take the best reference for each score and the mean over texts; other letters than ASCII's separate words", () => {
    const items = [
      { text: "a b c", references: ["a x x x b", "b c a"] },
      { text: "café", references: ["caf"] },
    ];
    // Text 1: ROUGE-1 by the second reference (3 of 3), ROUGE-2 "b c" of 2 pairs each, LCS "b c" of 3 words each.
    expect(rouge(items).rouge1).toBeCloseTo((1 + 1) / 2, 12);
    expect(rouge(items).rouge2).toBeCloseTo((1 / 2 + 0) / 2, 12);
    expect(rouge(items).rougeL).toBeCloseTo((2 / 3 + 1) / 2, 12);
  });
});

describe("CIDEr", () => {
  it("is 10 for texts that are their own references and share nothing", () => {
    const items = ["one two three four five", "six seven eight nine ten"].map((text) => ({ text, references: [text] }));
    expect(cider(items)).toBeCloseTo(10, 10);
  });

  it("has the value calculated by hand for one common word and no longer n-gram", () => {
    // Two instances; every word occurs in one, so its idf is log 2 throughout. "a x" against "a y": cosine of words 1/2,
    // of pairs 0; the bigram counts are equal. (1/2 + 0 + 0 + 0) / 4 * 10, and 10 * (1 + 1) / 4 for "p q" with itself.
    const items = [
      { text: "a x", references: ["a y"] },
      { text: "p q", references: ["p q"] },
    ];
    expect(cider(items)).toBeCloseTo((1.25 + 5) / 2, 10);
  });

  it("ignores case and punctuation", () => {
    expect(plainTokens("The Eagle's cheap, isn't it?")).toEqual(["the", "eagle's", "cheap", "isn't", "it"]);
  });
});

describe("the METEOR variant", () => {
  it("is 1 for its own reference, 0 for other words", () => {
    expect(meteorVariant([{ text: "the cheap pub", references: ["The cheap pub."] }])).toBeCloseTo(1, 12);
    expect(meteorVariant([{ text: "a b", references: ["c d"] }])).toBe(0);
  });

  it("weighs stems, recall and fragments, as calculated by hand", () => {
    // "pubs" ~ "pub" by stem (0.6), "cheap" exact (1), in the other order: two chunks of two matches.
    // P = 1.6 / 2, R = 1.6 / 3, F = P R / (0.85 P + 0.15 R), penalty 0.6 * (2 / 2)^0.2.
    const [p, r] = [0.8, 1.6 / 3];
    const expected = ((p * r) / (0.85 * p + 0.15 * r)) * 0.4;
    expect(meteorVariant([{ text: "cheap pubs", references: ["pub so cheap"] }])).toBeCloseTo(expected, 12);
  });

  it("writes the files that the reference scorer reads", () => {
    const items = [
      { text: "a\nb", references: ["c", "d  e"] },
      { text: "f", references: ["g"] },
    ];
    expect(e2eMetricsFiles(items)).toEqual({ system: "a b\nf\n", references: "c\nd e\n\ng\n" });
  });
});

describe("SQuAD", () => {
  it.each([
    ["The  Denver Broncos!", "denver broncos"],
    ["a theatre, an opera", "theatre opera"],
    ["U.S.A.", "usa"],
  ])("normalises %s", (text, expected) => {
    expect(normaliseAnswer(text)).toBe(expected);
  });

  it("F1 counts a word as often as both texts have it", () => {
    // 2 of 3 words in common with 2 of 4: precision 2/3, recall 1/2.
    expect(answerF1("denver broncos won", "denver broncos of colorado")).toBeCloseTo(4 / 7, 12);
    expect(answerF1("x x", "x")).toBeCloseTo(2 / 3, 12);
    expect(answerF1("", "x")).toBe(0);
    expect(exactMatch("The Broncos", "broncos")).toBe(1);
  });

  it("scores each question by its best answer", () => {
    const examples = [
      { id: "1", answers: [{ text: "Denver" }, { text: "Denver Broncos" }] },
      { id: "2", answers: [{ text: "1886" }] },
    ];
    const predictions = new Map([
      ["1", "the Denver Broncos"],
      ["2", "in 1886"],
    ]);
    const { exactMatch: exact, f1 } = squadScores(predictions, examples);
    expect(exact).toBe(50);
    expect(f1).toBeCloseTo(100 * ((1 + 2 / 3) / 2), 10);
    expect(() => squadScores(new Map(), examples)).toThrow(/question 1 has no prediction/);
  });
});

describe("a metric of no texts, or of a text without references,", () => {
  it.each([bleu, nist, rouge, rougeL, cider, meteorVariant])("is an error: %o", (metric) => {
    expect(() => metric([])).toThrow(/no texts are scored/);
    expect(() => metric([{ text: "a", references: [] }])).toThrow(/text 1 has no reference/);
  });
});
