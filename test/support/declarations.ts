import ts from "typescript";

/** A type that a public signature names and that no entry exports. */
export interface HiddenType {
  readonly type: string;
  /** The export whose signature names it, with the member. */
  readonly where: string;
}

/** What the package's entries export, and the declarations of it. */
export interface Declarations {
  readonly hidden: readonly HiddenType[];
  /** Types of all parameters and members that are directories, by where they are: function, class or interface with member. */
  readonly places: ReadonlyMap<string, string>;
}

/** Walks everything that the entries export, with its public members. @param files declarations of entries. */
export function readDeclarations(files: readonly string[]): Declarations {
  const options = {
    module: ts.ModuleKind.ESNext,
    moduleResolution: ts.ModuleResolutionKind.Bundler,
    skipLibCheck: true,
  };
  const program = ts.createProgram({ rootNames: [...files], options: { ...options, target: ts.ScriptTarget.ES2022 } });
  const checker = program.getTypeChecker();
  const original = (symbol: ts.Symbol): ts.Symbol =>
    symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
  const exported = new Map<ts.Symbol, string>();
  for (const file of files) {
    const module = checker.getSymbolAtLocation(program.getSourceFile(file)!);
    if (!module) throw new Error(`${file} is no module.`);
    for (const symbol of checker.getExportsOfModule(module)) exported.set(original(symbol), symbol.name);
  }
  const hidden = new Map<string, HiddenType>();
  const places = new Map<string, string>();
  const isOurs = ({ declarations = [] }: ts.Symbol): boolean =>
    declarations.some((declaration) => !/node_modules/.test(declaration.getSourceFile().fileName));
  const visit = (node: ts.Node, where: string): void => {
    const isPrivate = ts.canHaveModifiers(node) && (ts.getModifiers(node) ?? []).some(({ kind }) => HIDDEN.has(kind));
    if (isPrivate || (ts.isClassElement(node) && node.name && ts.isPrivateIdentifier(node.name))) return;
    const isMember = ts.isTypeElement(node) || ts.isClassElement(node) || ts.isParameter(node);
    const here = isMember && node.name ? `${where}.${node.name.getText()}` : where;
    const name = namedBy(node);
    const symbol = name && checker.getSymbolAtLocation(name);
    if (symbol) {
      const meant = original(symbol);
      const isParameter = Boolean(meant.flags & ts.SymbolFlags.TypeParameter);
      if (!isParameter && isOurs(meant) && !exported.has(meant) && meant.name !== "__type") {
        hidden.set(`${meant.name} ${here}`, { type: meant.name, where: here });
      }
      if (/^Directory(?:Like)?$/.test(meant.name)) places.set(here, meant.name);
    }
    ts.forEachChild(node, (child) => visit(child, here));
  };
  for (const [symbol, name] of exported) {
    if (!isOurs(symbol)) continue;
    for (const declaration of symbol.declarations ?? []) visit(declaration, name);
  }
  return { hidden: [...hidden.values()], places };
}

const HIDDEN = new Set([ts.SyntaxKind.PrivateKeyword, ts.SyntaxKind.ProtectedKeyword]);

/** The name that a node refers to a type by. */
function namedBy(node: ts.Node): ts.Node | undefined {
  if (ts.isTypeReferenceNode(node)) return node.typeName;
  return ts.isExpressionWithTypeArguments(node) ? node.expression : undefined;
}
