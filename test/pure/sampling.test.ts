import { describe, expect, it } from "vitest";
import { Random } from "../../src/base/random";
import { generateSettings } from "../../src/generate/options";
import type { GenerateSettings } from "../../src/generate/options";
import { draw, penalise, warp } from "../../src/generate/sample";
import { Search } from "../../src/generate/search";
import { readJson } from "../support/json";

/** Scores that transformers' processors leave; test/interop/sampling.py writes them. */
const { rows, cases } = readJson<{
  readonly rows: readonly { readonly scores: number[]; readonly ids: number[] }[];
  readonly cases: readonly {
    readonly settings: Readonly<Record<string, number>>;
    readonly results: readonly { readonly kept: number[]; readonly probabilities: number[] }[];
  }[];
}>("test/interop/sampling.json");

const settingsOf = (config: Readonly<Record<string, number>>): GenerateSettings =>
  generateSettings({ sample: true, maxNewTokens: 1 }, config);

function probabilities(scores: Float64Array): number[] {
  const exponentials = Array.from(scores, Math.exp);
  const total = exponentials.reduce((sum, value) => sum + value, 0);
  return exponentials.map((value) => value / total);
}

describe("tokens have the probabilities of transformers", () => {
  it.each(cases.filter(({ settings }) => settings["no_repeat_ngram_size"] === undefined))(
    "$settings",
    ({ settings, results }) => {
      const { sampling, repetitionPenalty } = settingsOf(settings);
      rows.forEach(({ scores, ids }, i) => {
        const processed = Float64Array.from(scores);
        penalise(processed, ids, repetitionPenalty);
        warp(processed, sampling!);
        // Which of equal scores top-p removes is left to the sort, in PyTorch too, so tokens are compared by their scores.
        const scoresOf = (tokens: readonly number[]) => tokens.map((token) => scores[token]!).sort((a, b) => a - b);
        const kept = [...processed.keys()].filter((token) => Number.isFinite(processed[token]));
        expect(scoresOf(kept), `row ${i}`).toEqual(scoresOf(results[i]!.kept));
        const ascending = probabilities(processed).filter((probability) => probability > 0);
        const expected = results[i]!.probabilities.toSorted((a, b) => a - b);
        ascending.sort((a, b) => a - b);
        ascending.forEach((probability, j) => expect(probability, `row ${i}`).toBeCloseTo(expected[j]!, 12));
      });
    },
  );
});

it.each(cases)("a search draws by these probabilities: $settings", ({ settings, results }) => {
  const draws = 4000;
  const { scores, ids } = rows[0]!;
  const { kept, probabilities: expected } = results[0]!;
  const counts = new Map<number, number>();
  for (let index = 0; index < draws; index++) {
    const search = new Search(ids, settingsOf(settings), index);
    search.advance([Float32Array.from(scores)]);
    const [token] = search.best.ids;
    counts.set(token!, (counts.get(token!) ?? 0) + 1);
  }
  expect([...counts.keys()].every((token) => kept.includes(token))).toBe(true);
  kept.forEach((token, j) => {
    const probability = expected[j]!;
    // Six standard deviations of a binomial distribution, and one count for very unlikely tokens.
    const most = 6 * Math.sqrt(draws * probability * (1 - probability)) + 1;
    expect(Math.abs((counts.get(token) ?? 0) - draws * probability), `token ${token}`).toBeLessThanOrEqual(most);
  });
});

it("the least of equal scores at the limit of top-p is removed by its place, and one token always stays", () => {
  const sampling = { temperature: 1, topK: 0, topP: 0.5, minP: 0, seed: 0 };
  const scores = new Float64Array(4);
  warp(scores, sampling);
  expect([...scores]).toEqual([-Infinity, -Infinity, 0, 0]);
  const single = Float64Array.of(-Infinity, 1, -Infinity);
  warp(single, { ...sampling, topK: 2, topP: 0, minP: 1 });
  expect([...single]).toEqual([-Infinity, 1, -Infinity]);
  expect(draw(single, new Random(0))).toBe(1);
});
