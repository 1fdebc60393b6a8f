import { parse, Template, tokenize } from "@huggingface/jinja";
import type { AnswerSpan, CompiledTemplate } from "./chat-template";

/** Marks in a rendered text, of code points that are no characters. */
const [START, END] = ["\ufdd0", "\ufdd1"];

/** Most rounds of all loops and calls of macros while a text is written: the longest of published templates take some thousands. */
const MOST_ROUNDS = 500_000;
/** Functions of templates that their authors do not write: one that counts a round, and `range` with a limit. */
const [COUNTER, RANGE] = ["count_round_of_template", "range_of_template"];
const [COUNT] = parse(tokenize(`{{ ${COUNTER}() }}`)).body;

/** Compiles a template with transformers' settings of Jinja. @throws Error for one that cannot be parsed. */
export function compileTemplate(source: string): CompiledTemplate {
  // Jinja reads every line end as \n.
  const text = source.replace(/\r\n?/g, "\n");
  const marksAnswers = /\{%-?\s*generation\s*-?%\}/.test(text);
  const template = new Template(marksAnswers ? withMarks(text) : text);
  countRounds(template.parsed);
  return {
    marksAnswers,
    readsParts: /\bis\s+(?:not\s+)?(?:string|iterable|sequence|mapping)\b|\[['"]type['"]\]|\.type\b/.test(text),
    render: (variables) => {
      const rendered = template.render({ ...variables, [RANGE]: range, [COUNTER]: roundCounter() });
      return marksAnswers ? withoutMarks(rendered) : { text: rendered, answers: [] };
    },
  };
}

/** What a parsed template consists of. */
interface TemplateNode {
  readonly type?: string;
  readonly body?: unknown[];
  readonly callee?: { readonly type: string; value?: unknown };
}

/** Makes every round of a loop and every call of a macro in a parsed template begin by counting it, and ranges have a limit. */
function countRounds(node: unknown): void {
  if (typeof node !== "object" || node === null) return;
  for (const part of Object.values(node)) countRounds(part);
  // The classes of nodes are not exported.
  const { type, body, callee } = node as TemplateNode;
  if (["For", "Macro", "CallStatement"].includes(type ?? "")) body?.unshift(COUNT);
  if (type === "CallExpression" && callee?.type === "Identifier" && callee.value === "range") callee.value = RANGE;
}

const tooLong = (): Error => new Error(`it takes more than ${MOST_ROUNDS} rounds of loops and macros`);

function roundCounter(): () => void {
  let rounds = 0;
  return () => {
    if (++rounds > MOST_ROUNDS) throw tooLong();
  };
}

/** Python's `range`, which makes a list here, and therefore has a limit. */
function range(...bounds: readonly number[]): number[] {
  const [start = 0, stop = 0, step = 1] = bounds.length === 1 ? [0, ...bounds] : bounds;
  if (step === 0) throw new Error("range() arg 3 must not be zero");
  const length = Math.max(0, Math.ceil((stop - start) / step));
  if (!(length <= MOST_ROUNDS)) throw tooLong();
  return Array.from({ length }, (_, i) => start + i * step);
}

/** A template that writes marks where answers begin and end. Blocks stay blocks, on whose lines white space has its rules. */
function withMarks(source: string): string {
  return source.replace(
    /\{%(-?)\s*(end)?generation\s*(-?)%\}/g,
    (_, before: string, end: string | undefined, after: string) => {
      return `{%${before} if true %}{{ "${end ? END : START}" }}{% endif ${after}%}`;
    },
  );
}

function withoutMarks(rendered: string): { readonly text: string; readonly answers: readonly AnswerSpan[] } {
  const answers: AnswerSpan[] = [];
  let [text, start] = ["", 0];
  for (const part of rendered.split(/(\ufdd0|\ufdd1)/)) {
    if (part === START) start = text.length;
    else if (part === END) answers.push([start, text.length]);
    else text += part;
  }
  return { text, answers };
}
