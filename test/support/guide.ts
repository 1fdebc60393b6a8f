import ts from "typescript";

/** A fenced block of a page: its language, what follows that on the fence's line, and its code. */
export interface Block {
  readonly language: string;
  readonly mark: string;
  readonly code: string;
  /** Line of the fence, from 1. */
  readonly line: number;
}

/** The fenced blocks of a page, in order. */
export function blocksOf(page: string): Block[] {
  return [...page.matchAll(/^```(\w+)[ ]*(.*)\n([\s\S]*?)^```$/gm)].map((match) => {
    const [, language = "", mark = "", code = ""] = match;
    return { language, mark, code, line: page.slice(0, match.index).split("\n").length };
  });
}

/** What does not parse in a block's JavaScript, or in the scripts within its HTML. */
export function syntaxErrors({ language, code }: Block): string[] {
  const scripts =
    language === "html" ? [...code.matchAll(/<script[^>]*>([\s\S]*?)<\/script>/g)].map(([, own = ""]) => own) : [code];
  return scripts.flatMap((script) => {
    const compilerOptions = { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ESNext, allowJs: true };
    const { diagnostics = [] } = ts.transpileModule(script, {
      reportDiagnostics: true,
      fileName: "block.js",
      compilerOptions,
    });
    return diagnostics.map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, "\n"));
  });
}
