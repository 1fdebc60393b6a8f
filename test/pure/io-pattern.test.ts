import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { compilePattern } from "../../src/io/pattern";

/** Patterns that JavaScript's regular expressions share. They are small, since JavaScript takes minutes for larger ones. */
const { pattern } = fc.letrec<{ pattern: string; atom: string; piece: string }>((tie) => ({
  pattern: fc
    .array(fc.array(tie("piece"), { maxLength: 3 }), { minLength: 1, maxLength: 2 })
    .map((choices) => choices.map((pieces) => pieces.join("")).join("|")),
  piece: fc
    .tuple(tie("atom"), fc.constantFrom("", "", "*", "+", "?", "{2}", "{1,2}", "{1,}", "*?"))
    .map((p) => p.join("")),
  atom: fc.oneof(
    { maxDepth: 1, withCrossShrink: true },
    fc.constantFrom("a", "b", ".", "\\.", "[ab]", "[^a]", "\\w", "\\d"),
    tie("pattern").map((inner) => `(?:${inner})`),
    tie("pattern").map((inner) => `(${inner})`),
  ),
}));

describe("compilePattern", () => {
  test("matches the same texts as JavaScript's regular expressions", () => {
    fc.assert(
      fc.property(
        pattern,
        fc.array(fc.string({ unit: fc.constantFrom("a", "b", ".", "1"), maxLength: 5 })),
        (source, texts) => {
          const matches = compilePattern(source);
          const expected = new RegExp(`^(?:${source})$`, "u");
          for (const text of texts)
            expect(matches(text), `/${source}/ on ${JSON.stringify(text)}`).toBe(expected.test(text));
        },
      ),
      { numRuns: 3000 },
    );
  });

  test.each([
    [".*\\.(q_proj|v_proj)", "model.layers.0.self_attn.q_proj", true],
    [".*\\.(q_proj|v_proj)", "model.layers.0.self_attn.k_proj", false],
    [".*decoder.*(SelfAttention|EncDecAttention).*(q|v)$", "decoder.block.0.layer.1.EncDecAttention.q", true],
    ["^model\\.layers\\.[0-3]\\..*", "model.layers.2.mlp.up_proj", true],
    ["^model\\.layers\\.[0-3]\\..*", "model.layers.12.mlp.up_proj", false],
    ["layer.(\\d+).output", "layer.11.output", true],
    ["[\\w.-]+", "a-b.c_1", true],
    ["[-a]x{2,3}", "-xxx", true],
    ["[]a]", "]", true],
    ["{", "{", true],
    ["é+", "éé", true],
    ["", "", true],
    ["", "x", false],
  ])("/%s/ on %j is %s", (source, text, expected) => {
    expect(compilePattern(source)(text)).toBe(expected);
  });

  test.each([
    "(a*)*b",
    "(a|a)*b",
    `${"a?".repeat(200)}${"a".repeat(200)}b`,
    ".*".repeat(100) + "b",
    "((a+)+)+b",
    "(a|aa)+b",
    "(?:)".repeat(100) + "{1000}b",
    "(?:(?:(?:(?:){999}){999}){999}){999}",
  ])("matches %s within a second, where backtracking would take for ever", (source) => {
    const begin = performance.now();
    compilePattern(source)("a".repeat(200));
    expect(performance.now() - begin, "milliseconds").toBeLessThan(1000);
  });

  test.each([
    ["(", /has no \)/],
    [")", /has no \(/],
    ["[a", /too early/],
    ["a\\", /too early/],
    ["*", /nothing to repeat before \*/],
    ["a**", /repetition is repeated/],
    ["a{2}{3}", /repetition is repeated/],
    ["(?!a)b", /not supported/],
    ["(?<name>a)", /not supported/],
    ["(a)\\1", /not supported/],
    ["\\b", /not supported/],
    ["a{100000}", /repeats too much/],
    ["((a{100}){100}){100}", /repeats too much/],
    ["a".repeat(1001), /longer than 1000/],
  ])("refuses /%s/", (source, message) => {
    expect(() => compilePattern(source)).toThrow(SyntaxError);
    expect(() => compilePattern(source)).toThrow(message);
  });
});
