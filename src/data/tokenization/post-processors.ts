import type { Span } from "../offsets";
import { SPACE } from "./byte-alphabet";
import { isWhiteSpace } from "./patterns";
import { innerSteps, isStep, option, unsupported, UnsupportedStep } from "./step";
import type { Step } from "./step";

/** A token of a text or, without a source, one that was added. */
export interface Token {
  readonly id: number;
  readonly span: Span;
  readonly typeId: number;
  /** 0 for the first text, 1 for the second, undefined for an added token. */
  readonly source: 0 | 1 | undefined;
  /** What an added token was found as, with the white space that it took. Default: the vocabulary's spelling. */
  readonly spelling?: string;
}

/** Joins the tokens of one or two texts, and adds the special tokens. */
export interface PostProcessor {
  /** Number of special tokens. */
  count(isPair: boolean): number;
  join(texts: readonly (readonly Token[])[], addsSpecial: boolean): readonly Token[];
}

/** @param spellingOf the spelling of an id. */
export type Spelling = (id: number) => string | undefined;

/** The post-processor of tokenizer.json. @throws UnsupportedStep naming what is not supported. */
export function makePostProcessor(step: Step | undefined, spellingOf: Spelling): PostProcessor {
  const steps = step === undefined ? [] : makeSteps(step, spellingOf);
  const run = (texts: readonly (readonly Token[])[], addsSpecial: boolean) =>
    steps.reduce((parts, process) => process(parts, addsSpecial), texts);
  return {
    count: (isPair) => run(isPair ? [[], []] : [[]], true).flat().length,
    join: (texts, addsSpecial) => run(texts, addsSpecial).flat(),
  };
}

/** A step on the tokens of each text. */
type Process = (texts: readonly (readonly Token[])[], addsSpecial: boolean) => readonly (readonly Token[])[];

function makeSteps(step: Step, spellingOf: Spelling): Process[] {
  switch (step["type"]) {
    case "Sequence":
      return innerSteps(step, "processors").flatMap((inner) => makeSteps(inner, spellingOf));
    case "ByteLevel": {
      if (!option(step, "trim_offsets", "boolean", true)) return [];
      const addsSpace = option(step, "add_prefix_space", "boolean", true);
      return [(texts) => texts.map((tokens) => trimmed(tokens, addsSpace, spellingOf))];
    }
    case "BertProcessing":
    case "RobertaProcessing":
      return bertSteps(step, spellingOf);
    case "TemplateProcessing":
      return [template(step)];
    default:
      throw unsupported("post-processor", step);
  }
}

/** [CLS] a [SEP] b [SEP] of BERT, or <s> a </s></s> b </s> of RoBERTa, whose types are all 0. */
function bertSteps(step: Step, spellingOf: Spelling): Process[] {
  const [first, last] = [special(step, "cls"), special(step, "sep")];
  const isBert = step["type"] === "BertProcessing";
  const add: Process = ([a = [], b], addsSpecial) => {
    const own = (tokens: readonly Token[]) => (isBert ? tokens : tokens.map((token) => ({ ...token, typeId: 0 })));
    if (!addsSpecial) return b ? [own(a), own(b)] : [own(a)];
    const one = [added(first, 0), ...own(a), added(last, 0)];
    if (!b) return [one];
    return [one, isBert ? [...b, added(last, 1)] : [added(last, 0), ...own(b), added(last, 0)]];
  };
  if (isBert || !option(step, "trim_offsets", "boolean", true)) return [add];
  const addsSpace = option(step, "add_prefix_space", "boolean", true);
  return [(texts) => texts.map((tokens) => trimmed(tokens, addsSpace, spellingOf)), add];
}

function added(id: number, typeId: number): Token {
  return { id, span: [0, 0], typeId, source: undefined };
}

/** The id of [token, id] at a key. */
function special(step: Step, key: string): number {
  const pair = step[key];
  const id: unknown = Array.isArray(pair) ? pair[1] : undefined;
  if (isId(id)) return id;
  throw new UnsupportedStep(`${key} of the post-processor is not a token with its id`);
}

const isId = (value: unknown): value is number => Number.isSafeInteger(value) && Number(value) >= 0;

/** Spans without the white space at the ends of their tokens. A space that was added before a text is in no span. */
function trimmed(tokens: readonly Token[], addsSpace: boolean, spellingOf: Spelling): Token[] {
  const isSpace = (character: string): boolean => character === SPACE || isWhiteSpace(character);
  return tokens.map((token, i) => {
    const characters = [...(token.spelling ?? spellingOf(token.id) ?? "")];
    const firstOther = characters.findIndex((character) => !isSpace(character));
    const before = firstOther < 0 ? characters.length : firstOther;
    const after = characters.length - 1 - characters.findLastIndex((character) => !isSpace(character));
    let [start, end] = token.span;
    const isFirst = i === 0 || start === 0;
    if (before > 0) start = Math.min(start + (isFirst && addsSpace ? before - 1 : before), end);
    if (after > 0 && end >= after) end = Math.max(end - after, start);
    return { ...token, span: [start, end] };
  });
}

/** A part of a template: a text, or special tokens. */
interface TemplatePart {
  /** 0 for the first text, 1 for the second. */
  readonly text?: 0 | 1;
  readonly ids?: readonly number[];
  readonly typeId: number;
}

function template(step: Step): Process {
  const [single, pair] = [templateParts(step, "single"), templateParts(step, "pair")];
  return (texts, addsSpecial) =>
    (texts.length > 1 ? pair : single).flatMap(({ text, ids = [], typeId }) => {
      if (text !== undefined) return [(texts[text] ?? []).map((token) => ({ ...token, typeId }))];
      return addsSpecial ? [ids.map((id) => added(id, typeId))] : [];
    });
}

function templateParts(step: Step, key: string): TemplatePart[] {
  const parts = innerSteps(step, key);
  const specials = isStep(step["special_tokens"]) ? step["special_tokens"] : {};
  return parts.map((part) => {
    const { Sequence: text, SpecialToken: token } = part;
    if (isStep(text)) return { text: text["id"] === "B" ? 1 : 0, typeId: option(text, "type_id", "number", 0) };
    if (!isStep(token))
      throw new UnsupportedStep(`${key} of TemplateProcessing is neither of texts nor of special tokens`);
    const name = option(token, "id", "string", "");
    const entry = Object.hasOwn(specials, name) ? specials[name] : undefined;
    const ids: unknown = isStep(entry) ? entry["ids"] : undefined;
    if (!Array.isArray(ids) || !ids.every(isId)) {
      throw new UnsupportedStep(
        `TemplateProcessing adds ${JSON.stringify(name.slice(0, 60))}, which is not among its special_tokens`,
      );
    }
    return { ids, typeId: option(token, "type_id", "number", 0) };
  });
}
