import { existsSync, readFileSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import ts from "typescript";

/** Tests and benches run in the repository's root. */
const ROOT = process.cwd();

/** The folder of the built package. @throws Error if `npm run build` has not built it from the current sources. */
export function publishedFolder(): string {
  const folder = join(ROOT, "dist");
  const sources = ["src", "kernels"].flatMap((name) => filesBelow(join(ROOT, name)));
  const newest = Math.max(...sources.map((file) => statSync(file).mtimeMs));
  const built = join(folder, "index.js");
  if (existsSync(built) && statSync(built).mtimeMs >= newest) return folder;
  throw new Error(`${existsSync(built) ? "dist is older than the sources" : "There is no dist"}.\nRun: npm run build`);
}

const filesBelow = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, encoding: "utf8" }).map((name) => join(folder, name));

/** What a built file imports, and whether it makes code from strings. */
export interface Script {
  /** Modules that load together with it. */
  readonly imports: readonly string[];
  /** Modules that it may import later. */
  readonly lazy: readonly string[];
  /** Calls that a strict Content-Security-Policy forbids. */
  readonly evaluates: readonly string[];
}

const scripts = new Map<string, Script>();

/** What a built file says, which does not change while tests run. */
export function readScript(path: string): Script {
  const script = scripts.get(path) ?? parsed(path);
  scripts.set(path, script);
  return script;
}

function parsed(path: string): Script {
  const file = ts.createSourceFile(path, readFileSync(path, "utf8"), ts.ScriptTarget.Latest, true);
  const [imports, lazy, evaluates]: [string[], string[], string[]] = [[], [], []];
  const visit = (node: ts.Node): void => {
    if ((ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) && node.moduleSpecifier) {
      // The specifier of an import is always a string literal.
      imports.push((node.moduleSpecifier as ts.StringLiteral).text);
    }
    if (ts.isCallExpression(node) || ts.isNewExpression(node)) {
      const called = node.expression.getText();
      const [first] = node.arguments ?? [];
      const path = first && ts.isStringLiteralLike(first) ? first.text : "(computed)";
      if (called === "require") imports.push(path);
      if (called === "import") lazy.push(path);
      if (/^(?:(?:globalThis|window|self)\.)?(?:eval|Function)$/.test(called)) evaluates.push(node.getText());
    }
    ts.forEachChild(node, visit);
  };
  visit(file);
  return { imports, lazy, evaluates };
}

/** The names of a file and of all files of the package that load together with it, directly or indirectly. */
export function withStaticImports(folder: string, entry: string): string[] {
  const files = new Set<string>();
  const add = (name: string): void => {
    if (files.has(name)) return;
    files.add(name);
    for (const path of readScript(join(folder, name)).imports) if (path.startsWith("./")) add(path.slice(2));
  };
  add(entry);
  return [...files];
}

/** Source of a function of the entries' exports, by entry: their classes by name, and which of one name differ. */
export const CLASSES_OF = `
function classesOf(entries) {
  const [faults, classes] = [[], new Map()];
  for (const [entry, values] of Object.entries(entries)) {
    for (const [name, value] of Object.entries(values)) {
      if (typeof value !== "function" || !String(value).startsWith("class")) continue;
      if ((classes.get(name) ?? value) !== value) faults.push(name + " of " + entry + " is another class");
      classes.set(name, value);
    }
  }
  return { faults, classes };
}
`;
