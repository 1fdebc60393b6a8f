import { readFileSync, readdirSync } from "node:fs";
import { join, sep } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";

/** The path of an import, or a string literal, in a source file. */
export interface Mention {
  /** Relative to the repository, with forward slashes. */
  readonly file: string;
  readonly line: number;
  readonly text: string;
}

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/** The TypeScript files below a folder of the repository, without ambient declarations. */
export function sourceFiles(folder: string): string[] {
  const names = readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" });
  return names
    .filter((name) => name.endsWith(".ts") && !name.endsWith(".d.ts"))
    .map((name) => `${folder}/${name.split(sep).join("/")}`)
    .sort();
}

export function readSource(file: string): string {
  return readFileSync(join(ROOT, file), "utf8");
}

/** The paths that a file imports or exports from. */
export function importsOf(file: string): Mention[] {
  return collect(file, (node) => {
    if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) return node.moduleSpecifier;
    if (ts.isImportTypeNode(node)) return literalOf(node.argument);
    if (ts.isCallExpression(node) && isImportCall(node)) return node.arguments[0];
    return undefined;
  });
}

/** String literals other than the paths of imports. */
export function stringsOf(file: string): Mention[] {
  const imports = new Set(importsOf(file).map(({ line, text }) => `${line}:${text}`));
  const strings = collect(file, (node) => (ts.isStringLiteralLike(node) ? node : undefined));
  return strings.filter(({ line, text }) => !imports.has(`${line}:${text}`));
}

function collect(file: string, pick: (node: ts.Node) => ts.Node | undefined): Mention[] {
  const source = ts.createSourceFile(join(ROOT, file), readSource(file), ts.ScriptTarget.Latest, true);
  const mentions: Mention[] = [];
  const visit = (node: ts.Node): void => {
    const text = pick(node);
    if (text && ts.isStringLiteralLike(text)) {
      mentions.push({ file, line: source.getLineAndCharacterOfPosition(text.getStart()).line + 1, text: text.text });
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return mentions;
}

function literalOf(type: ts.TypeNode): ts.Node | undefined {
  return ts.isLiteralTypeNode(type) ? type.literal : undefined;
}

function isImportCall(call: ts.CallExpression): boolean {
  return call.expression.kind === ts.SyntaxKind.ImportKeyword;
}
