import { Template } from "@huggingface/jinja";
import type { AnswerSpan, CompiledTemplate } from "./chat-template";

/** Marks in a rendered text, of code points that are no characters. */
const [START, END] = ["\ufdd0", "\ufdd1"];

/** Compiles a template with transformers' settings of Jinja. @throws Error for one that cannot be parsed. */
export function compileTemplate(source: string): CompiledTemplate {
  // Jinja reads every line end as \n.
  const text = source.replace(/\r\n?/g, "\n");
  const marksAnswers = /\{%-?\s*generation\s*-?%\}/.test(text);
  const template = new Template(marksAnswers ? withMarks(text) : text);
  return {
    marksAnswers,
    readsParts: /\bis\s+(?:not\s+)?(?:string|iterable|sequence|mapping)\b|\[['"]type['"]\]|\.type\b/.test(text),
    render: (variables) => {
      const rendered = template.render({ ...variables });
      return marksAnswers ? withoutMarks(rendered) : { text: rendered, answers: [] };
    },
  };
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
