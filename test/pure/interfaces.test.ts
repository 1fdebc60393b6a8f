import { readFileSync } from "node:fs";
import ts from "typescript";
import { expect, it } from "vitest";

/** Lines of a screen, and what a table's head and title take of them. */
const SCREEN = 50;

/** Where the guide's interfaces are declared, with those that they extend. */
const DECLARATIONS: Readonly<Record<string, readonly (readonly [file: string, name: string])[]>> = {
  Trainer: [["src/train/trainer.ts", "Trainer"]],
  Adapter: [
    ["src/adapter/adapter.ts", "Adapter"],
    ["src/model/forward.ts", "ForwardHooks"],
  ],
  FreezePolicy: [
    ["src/freeze/policy.ts", "FreezePolicy"],
    ["src/freeze/policy.ts", "PolicyConfig"],
  ],
  FreezePolicyState: [
    ["src/freeze/policy.ts", "FreezePolicyState"],
    ["src/freeze/policy.ts", "PolicyState"],
  ],
  FreezeContext: [
    ["src/freeze/policy.ts", "FreezeContext"],
    ["src/freeze/policy.ts", "Progress"],
  ],
  BatchSource: [["src/train/options.ts", "BatchSource"]],
  Objective: [["src/train/options.ts", "Objective"]],
  Optimizer: [["src/optimizer/optimizer.ts", "Optimizer"]],
};

/** Names of the public members of an interface or a class, optional ones with a question mark. */
function membersOf(file: string, name: string): string[] {
  const source = ts.createSourceFile(file, readFileSync(file, "utf8"), ts.ScriptTarget.Latest, true);
  const declaration = source.statements.find(
    (statement): statement is ts.InterfaceDeclaration | ts.ClassDeclaration =>
      (ts.isInterfaceDeclaration(statement) || ts.isClassDeclaration(statement)) && statement.name?.text === name,
  );
  expect(declaration, `${name} in ${file}`).toBeDefined();
  const isPublic = (member: ts.ClassElement | ts.TypeElement): boolean => {
    const flags = ts.getCombinedModifierFlags(member);
    return (flags & (ts.ModifierFlags.Private | ts.ModifierFlags.Protected)) === 0;
  };
  const members: readonly (ts.ClassElement | ts.TypeElement)[] = [...declaration!.members];
  return members.filter(isPublic).flatMap((member) => {
    if (!member.name || !ts.isIdentifier(member.name)) return [];
    const isOptional = "questionToken" in member && member.questionToken !== undefined;
    return [`${member.name.text}${isOptional ? "?" : ""}`];
  });
}

/** The first column of the table below a title of the guide's page. */
function listed(title: string): string[] {
  const page = readFileSync("docs/guide/interfaces.md", "utf8");
  const [, section = ""] = new RegExp(`\n## ${title}\n([^]*?)(?=\n## |$)`).exec(page) ?? [];
  return [...section.matchAll(/^\| `([\w?]+)`/gm)].map(([, member]) => member!);
}

it.each(Object.keys(DECLARATIONS))("the guide has the members of %s on one screen", (title) => {
  const declared = DECLARATIONS[title]!.flatMap(([file, name]) => membersOf(file, name));
  expect(listed(title).sort()).toEqual([...new Set(declared)].sort());
  expect(declared.length).toBeLessThan(SCREEN - 4);
});
