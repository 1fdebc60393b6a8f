// @ts-check
// Writes the declarations of CommonJS, FILE.d.cts, from those of the ES modules, FILE.d.ts, in dist/: they differ in the
// endings of the files that they import alone. Making both from the sources takes twice as long.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const DIST = "dist";

for (const name of readdirSync(DIST).filter((file) => file.endsWith(".d.ts"))) {
  const declarations = readFileSync(join(DIST, name), "utf8");
  const ofCommonJs = declarations.replace(/((?:from|import) ?\(?['"]\.{1,2}\/[^'"]+)\.js(['"])/g, "$1.cjs$2");
  writeFileSync(join(DIST, name.replace(/\.d\.ts$/, ".d.cts")), ofCommonJs);
}
