import ts from "typescript";

/** A fenced block of a page. */
export interface Block {
  readonly language: string;
  /** The words after the language on the line of the fence. */
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

/** The syntax errors in the JavaScript of a block, or in the scripts of its HTML. */
export function syntaxErrors({ language, code }: Block): string[] {
  const scripts =
    language === "html"
      ? [...code.matchAll(/<script[^>]*>([\s\S]*?)<\/script>/g)].map(([, script = ""]) => script)
      : [code];
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
