import { SplitPreTokenizer } from "@huggingface/tokenizers";
import type { Span } from "../offsets";
import { patternFault } from "../pattern-cost";
import { isStep, nameOf, UnsupportedStep } from "./step";
import type { Step } from "./step";

/** The places in a text where a pattern matches, in order. */
export type Matcher = (text: string) => Span[];

/** The places where a regular expression with the flag g matches. */
export function matchesOf(expression: RegExp): Matcher {
  return (text) => Array.from(text.matchAll(expression), ({ 0: match, index }) => [index, index + match.length]);
}

/** The places of a text. */
export function literal(text: string): Matcher {
  return text === "" ? () => [] : matchesOf(new RegExp(text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "gu"));
}

/**
 * The pattern of a step: `{"String": text}` or `{"Regex": expression}`, in Oniguruma's syntax, which the tokenizer library
 * translates.
 * @throws UnsupportedStep for a regular expression that could take forever.
 */
export function patternOf(step: Step): Matcher {
  const { pattern } = step;
  const { String: text, Regex: expression } = isStep(pattern) ? pattern : { String: pattern, Regex: undefined };
  if (typeof expression === "string") return matchesOf(regularExpression(expression, step));
  if (typeof text !== "string")
    throw new UnsupportedStep(`${nameOf(step)} has a pattern that is neither a String nor a Regex`);
  return literal(text);
}

function regularExpression(source: string, step: Step): RegExp {
  const { pattern } = new SplitPreTokenizer({
    type: "Split",
    pattern: { Regex: source },
    behavior: "Isolated",
    invert: true,
  });
  if (pattern === null) throw new UnsupportedStep(`${nameOf(step)} has an empty pattern`);
  const fault = patternFault(pattern.source);
  if (fault === undefined) return pattern;
  throw new UnsupportedStep(
    `it has the pattern ${JSON.stringify(source.slice(0, 60))}, which may take forever: ${fault}`,
  );
}

export const isWhiteSpace = (character: string): boolean => /^\p{White_Space}$/u.test(character);
